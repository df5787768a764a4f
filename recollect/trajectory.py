"""What an agent did, as data: steps, trajectories, groups, rewards. Text and tokens are exactly those of the engine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from recollect.memory import Scalar, Trust
from recollect.messages import Message
from recollect.model import Frozen, Record
from recollect.policy import Policy
from recollect.tools import Tool, ToolCall

SCHEMA_VERSION = 1
RewardName = str
NEXT_TURN = "next_turn"
"""The `metadata.source` of a reward that was read from what the user said next."""


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


class Usage(Frozen):
    """Token counts of one or more model calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class MemoryRef(Record):
    """A memory that a step retrieved or cited: enough to find it again, and to see that it was the same text."""

    id: str
    score: float | None = None
    content_hash: str
    trust: Trust | None = None
    """Who said it; None in logs of earlier versions."""


class MemoryOp(Record):
    """A memory operation that a step asked for. `applied` is False for one that could not be (unknown id, no change)."""

    op: Literal["add", "update", "delete", "noop"]
    id: str | None = None
    text: str = ""
    applied: bool = True
    well_formed: bool = True
    """False for what could not be read as an operation; it is kept as a noop with its text."""


class Step(Record):
    """One model call or one memory operation of a trajectory.

    `prompt_ids` and `completion_ids` are the engine's; `logprobs` are the processed log-probabilities of
    `completion_ids` under `policy`, one each. They are None where the engine gives none, and then it is not trainable.
    """

    index: int
    role: str
    """The module's role in the agent: answerer, updater, reader, reader_answer, retriever, ..."""
    policy: Policy | None = None
    alias: str | None = None
    """What the agent calls the policy by. It parts what learns from what is frozen where both are the base model."""
    guided: bool = False
    """Decoded under a schema or a bias: `logprobs` are renormalised over what it allowed, and are not the policy's own."""
    messages: list[Message] = Field(default_factory=list[Message])
    text: str = ""
    reasoning: str = Field(default="", exclude_if=lambda value: not value)
    """What the engine read as thought in what was sampled."""
    tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall], exclude_if=lambda value: not value)
    """What it read as calls; `text` is the rest."""
    prompt_ids: list[int] | None = None
    completion_ids: list[int] | None = None
    logprobs: list[float] | None = None
    finish_reason: str | None = None
    sampling: dict[str, Any] = Field(default_factory=dict[str, Any])
    usage: Usage = Usage()
    started_at: datetime | None = None
    duration_s: float | None = None
    memory_ops: list[MemoryOp] = Field(default_factory=list[MemoryOp])
    retrieved: list[MemoryRef] = Field(default_factory=list[MemoryRef])
    cited: list[str] = Field(default_factory=list[str])
    error: str | None = None

    @property
    def trainable(self) -> bool:
        """True if the exact tokens and the policy's own log-probabilities are known and something was sampled."""
        return bool(self.completion_ids) and self.prompt_ids is not None and self.logprobs is not None and not self.guided


class Reward(Record):
    """A named score. `score` None means that scoring did not run: the sample is dropped and counted, never zero."""

    name: RewardName
    score: float | None
    weight: float = 1.0
    by_step: dict[int, float] = Field(default_factory=dict[int, float])
    """What each step of the trajectory earned, by its index, where the reward tells the steps apart."""
    metadata: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])


class Forked(Record):
    """Where a rollout began: behind the first `calls` model calls of another one of its task, which it repeats and does not sample."""

    trajectory_id: str
    calls: int


class Trajectory(Record):
    """One agent request, from its messages to its answer, with every call it made."""

    id: str
    schema_version: int = SCHEMA_VERSION
    tenant: str
    namespace: str
    session: str
    agent: str
    agent_config_hash: str
    request: list[Message]
    tools: list[Tool] = Field(default_factory=list[Tool], exclude_if=lambda value: not value)
    """What the client offered, and runs by itself: such a request cannot be rolled out again without it."""
    instructed: bool = Field(default=False, exclude_if=lambda value: not value)
    """The first message holds instructions of this request alone, which one that follows it does not take over."""
    answer: str = ""
    answer_calls: list[ToolCall] = Field(default_factory=list[ToolCall], exclude_if=lambda value: not value)
    answer_reasoning: str = Field(default="", exclude_if=lambda value: not value)
    """What the model thought before it; it is no part of what was said."""
    finish_reason: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Why the answer ended, as the engine said it."""
    asked: dict[str, Any] = Field(default_factory=dict[str, Any], exclude_if=lambda value: not value)
    """What an answer of `/v1/responses` repeats of its request, so that it can be retrieved. With `store` false, of a chat completion
    too, it is neither retrieved nor gone on from."""
    created_at: datetime = Field(default_factory=now)
    memory_seq_before: dict[str, int] = Field(default_factory=dict[str, int])
    memory_seq_after: dict[str, int] | None = None
    steps: list[Step] = Field(default_factory=list[Step])
    rewards: list[Reward] = Field(default_factory=list[Reward])
    error: str | None = None
    memory_error: str | None = None
    """What writing memory failed with after the answer had gone out; the answer itself is whole."""
    consent: Literal["own_pool", "shared_pool", "none"] = "own_pool"
    trainable: bool = True
    use_memory: bool = True
    """False if the request asked for nothing to be recalled or remembered."""
    forked: Forked | None = None
    """Set for a rollout that began at an intermediate memory; None for one that began at the task's beginning."""

    def after_call(self, count: int) -> list[Step]:
        """The steps behind the first `count` model calls."""
        calls = [number for number, step in enumerate(self.steps) if step.policy is not None][:count]
        return self.steps[calls[-1] + 1 :] if calls else self.steps

    @property
    def own_steps(self) -> list[Step]:
        """The steps without those that were repeated from another rollout."""
        return self.after_call(self.forked.calls) if self.forked else self.steps

    @property
    def reward(self) -> float | None:
        """The weighted sum of the rewards; None if there is none or one of them was not scored."""
        if not self.rewards or any(r.score is None for r in self.rewards):
            return None
        return sum((r.score or 0.0) * r.weight for r in self.rewards)


class TrajectoryGroup(Record):
    """G trajectories of one task from one memory state: what GRPO compares."""

    task_id: str
    trajectories: list[Trajectory]


class Feedback(Record):
    """What a user said of an answer. A `correction` is a gold answer; `score` is in [0, 1]; `label` up or down."""

    id: str
    score: float | None = Field(default=None, ge=0, le=1)
    label: Literal["up", "down"] | None = None
    correction: str | None = None
    citations: list[str] | None = None
    comment: str | None = None

    @property
    def accepted(self) -> bool:
        """True if the answer was called good and not corrected."""
        return self.correction is None and (self.label == "up" or (self.score is not None and self.score >= 0.5 and self.label is None))
