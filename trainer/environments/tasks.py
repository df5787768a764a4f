"""A task: what an agent remembers first, what it is asked then, and which answers are right."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from recollect.memory import MemoryWrite, Namespace
from recollect.messages import Message
from recollect.model import Frozen

Metric = Literal["exact_match", "boxed", "contains_all", "contains_any", "f1", "first_label"]


class Turn(Frozen):
    """An earlier request of the same namespace, with its session and the reply that it was given (empty if not known)."""

    messages: tuple[Message, ...]
    reply: str = ""
    session: str | None = None
    at: datetime | None = None
    """When it was said, if that is known."""
    id: str | None = None
    """What `Task.evidence` may name; of a logged one, its trajectory's."""
    speaker: str | None = None
    """Who said it, where a file has several; the text begins with the name too."""


class Task(Frozen):
    """One task. Memory begins as `namespace` was at `as_of`, or empty, with `memories` added; then `conversation` is
    remembered, then `request` is answered."""

    id: str
    kind: Literal["dialogue", "reading", "rerank"]
    agent: str
    namespace: Namespace = Namespace()
    as_of: int | None = None
    """The `seq` of the logged memory state; None: an empty memory."""
    memories: tuple[MemoryWrite, ...] = ()
    conversation: tuple[Turn, ...] = ()
    request: tuple[Message, ...]
    session: str | None = None
    """Of the request."""
    at: datetime | None = None
    """Of the request."""
    gold: tuple[str, ...] = Field(min_length=1)
    metric: Metric = "exact_match"
    """How an answer is compared with `gold` (trainer/rewards)."""
    choices: tuple[str, ...] = ()
    """The closed set of labels that the answer is one of (metric first_label); empty: an open answer."""
    answer_tokens: int | None = None
    """The tokens that the benchmark allows an answer; None: the run's own."""
    evidence: tuple[str, ...] = ()
    """The ids of the memories or turns that hold the answer, where the task knows them."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What a table may group by: type of task, category, length."""
    source: Literal["logged", "generated", "file"]
    trajectory_ids: tuple[str, ...] = ()
    """The logged trajectories that this task was made from, the probe last. Tasks of one conversation have the same before it."""
