"""Which tasks a run makes from the log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recollect.memory import Trust
from recollect.model import Frozen

WINDOW = 12
"""Turns before the probe that are replayed at most."""


class LogUse(Frozen):
    """What of the log is learned from. Everything that is left out is counted by its reason."""

    since: Literal["all", "cursor"] = "all"
    """all: every trajectory that the log holds. cursor: what no run of this policy has taken yet, and some older tasks again."""
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    """Of `cursor`: the share of older tasks among the logged ones, at most."""
    probes: int = Field(default=8, ge=1)
    """Questions that follow each other and are asked of one conversation, at most; 1: each replays those before it too."""
    distrusted: tuple[Trust, ...] = ("tool", "document")
    """Nothing is learned from an answer that rests on a memory of these tiers."""
    namespace_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the tasks that one namespace gives, at most, so that nobody who floods feedback decides what is learned;"""
    namespace_tasks: int = Field(default=32, ge=0)
    """so many may always come of one, however few the others give."""
    next_turn: bool = False
    """Take an answer for right if `trajectories reverify --next-turn` found that the user's next words do."""
    closed_book: bool = False
    """Leave tasks out that the current policy answers without any memory. It costs one rollout a task."""
