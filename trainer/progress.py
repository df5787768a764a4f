"""What a run says of itself while it goes on, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["prepare", "before", "train", "after", "publish"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` of a stage; the metrics of an iteration when it ends; a sentence where there is one to say."""

    stage: Stage
    done: int = 0
    total: int = 1
    text: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Say nothing."""
