"""What a candidate must show to be published."""

from __future__ import annotations

from pydantic import Field

from recollect.model import Frozen


class GateSettings(Frozen):
    """The limits of the gate (`publish=gate`)."""

    regression_tasks: int = Field(default=200, ge=1)
    """Generated tasks of the fixed suite, beside the log's own held-out ones."""
    min_own_tasks: int = Field(default=20, ge=1)
    """With fewer own held-out tasks that were scored they are not judged by themselves: that is said, and they count in the pool alone."""
    own_margin: float = Field(default=0.05, ge=0)
    """How much worse own tasks may be: the lower end of their 90 % interval must lie above minus this."""
    max_norm: float = Field(default=0.5, gt=0)
    """The largest change that the adapter may make to a weight matrix, as the ratio of their Frobenius norms."""
    max_divergence: float = Field(default=1.0, gt=0)
    """The largest mean divergence from the parent on the last batch, in nats a token (k3)."""
    canary_margin: float = Field(default=0.125, ge=0, le=1)
    """How much larger a share of the canaries the candidate may fail than its parent."""
