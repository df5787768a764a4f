"""Canaries: a version that answers a share of the sessions beside the version in force, until rewards say what becomes of it.

`canary.json` lies in the version's folder from the rename on that publishes it, and is replaced whole when the canary ends. It is
in force while it has not ended, is not retired, and `current` still names the version that it was published beside: whoever does
not know the file sees a version that is not current, and ends the canary by making any version current.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from recollect.errors import AdapterRefused
from recollect.log_files import replacing
from recollect.model import Frozen, Record
from recollect.trajectory import now

CANARY = "canary.json"
LEAST_REWARDS = 8
"""Rewarded sessions of each side without which nothing is said of them."""
Session = tuple[str, str]
"""A session of the pool's tenant: its namespace and its own id."""


class CanarySettings(Frozen):
    """How a candidate that was let pass is tried on served sessions before it answers all of them. Off with `share` 0."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Of the sessions, those that it answers, such as 0.1."""
    min_rewards: int = Field(default=50, ge=LEAST_REWARDS)
    """Rewarded sessions that each side must have before it is promoted."""
    max_hours: float = Field(default=48.0, gt=0, allow_inf_nan=False)
    """If nothing is decided by then, it is taken back."""


class Side(Record):
    """The rewarded sessions of one side: how many, how many they count for with each namespace's share bounded, and their mean."""

    sessions: int = 0
    counted: float = 0.0
    mean: float | None = None


class Figures(Record):
    """What the rewards say: both sides, and the difference (canary less version in force) with its 95 % interval."""

    canary: Side = Side()
    in_force: Side = Side()
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def said(self) -> str:
        """The figures in words."""
        text = f"{self.canary.sessions} rewarded sessions against {self.in_force.sessions}"
        if self.difference is None:
            return text
        return f"{self.difference:+.3f} (95 %: {self.low:+.3f} to {self.high:+.3f}), {text}"


class Ended(Record):
    """How a canary ended, and why."""

    verdict: Literal["promoted", "rolled_back"]
    reason: str
    figures: Figures | None = None
    at: datetime = Field(default_factory=now)


class Canary(Record):
    """`canary.json`."""

    over: int | None
    """The version in force that it is compared with; None: the base model."""
    share: float
    min_rewards: int
    max_hours: float
    margin: float
    """How much worse its rewards may be: the lower end of their 90 % interval must lie above minus this."""
    since: datetime = Field(default_factory=now)
    ended: Ended | None = None

    @property
    def until(self) -> datetime:
        """When it is taken back if nothing is decided."""
        return self.since + timedelta(hours=self.max_hours)


class OpenCanary(NamedTuple):
    """A canary that is in force."""

    version: int
    canary: Canary


def answered_by_canary(name: str, share: float, tenant: str, session: Session) -> bool:
    """Whether a session falls under the share of the canary called `name` (`memory@v7`).

    It is the same for ever, and drawn anew for each version, so that not always the same people try what is new.
    """
    text = "\n".join((name, tenant, *session))
    return int.from_bytes(sha256(text.encode()).digest()[:8]) < share * 2**64


def canary_in(folder: Path) -> Canary | None:
    """What `canary.json` of a version's folder says; None without one. Raises AdapterRefused for one that cannot be read."""
    try:
        return Canary.model_validate_json((folder / CANARY).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise AdapterRefused(f"{folder.name}: {CANARY} cannot be read: {exc.errors()[0]['msg']}", param="version") from exc


def keep_canary(folder: Path, canary: Canary) -> None:
    """Write `canary.json`, whole or not at all, and durable."""
    with replacing(folder / CANARY) as file:
        file.write(canary.model_dump_json(indent=1).encode() + b"\n")
