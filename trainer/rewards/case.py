"""What a reward is computed from: a task, the trajectory that was rolled out on it, and views of the two."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from pydantic import Field

from recollect.model import Frozen
from recollect.normalised import boxed
from recollect.trajectory import MemoryRef, Step, Trajectory
from server.agents import document
from server.agents.carried import carried_text
from server.agents.recurrent import READ
from trainer.environments.tasks import Task
from trainer.rewards import provenance
from trainer.rewards.attribution import BETA
from trainer.rewards.evidence import K

Origins = Mapping[str, AbstractSet[str]]
"""The ids of the turns in which a memory was written, by the memory's id."""


class Scoring(Frozen):
    """What rewards are measured against. They count only where the reward has a weight."""

    answer_tokens: int = Field(default=64, ge=1)
    """Of `length`: tokens of an answer, thoughts included."""
    seconds: float = Field(default=10.0, gt=0)
    """Of `latency`: all model calls of a trajectory together."""
    tokens: int = Field(default=8_192, ge=1)
    """Of `token_cost`: prompts and completions of all model calls."""
    k: int = Field(default=K, ge=1)
    """Of `evidence_recall` and `evidence_ndcg`: how many memories count."""
    beta: float = Field(default=BETA, ge=0, le=1)
    """Of `evidence_attribution`: the share that follows the evidence."""


@dataclass(frozen=True, slots=True)
class Case:
    """A rollout that did not fail."""

    task: Task
    trajectory: Trajectory
    scoring: Scoring = field(default_factory=Scoring)
    origins: Origins = field(default_factory=dict[str, AbstractSet[str]])

    @property
    def said(self) -> str:
        """The answer without what was thought before it; empty if a thought was begun and not ended."""
        return carried_text(self.trajectory.answer) or ""

    @property
    def named(self) -> str:
        """What the answer's last box holds, if it has one, else the answer."""
        inside = boxed(self.said)
        return self.said if inside is None else inside

    @property
    def question(self) -> str:
        """What the request asks, without a document that stands before it."""
        if self.task.kind == "reading":
            return document.split(self.task.request).question
        return next((m.content for m in reversed(self.task.request) if m.role == "user"), "")

    @property
    def calls(self) -> list[Step]:
        """The model calls."""
        return [step for step in self.trajectory.steps if step.policy is not None]

    @property
    def answering(self) -> Step | None:
        """The call that gave the answer: the last one that wrote no memory."""
        return provenance.answering(self.trajectory)

    @property
    def shown(self) -> list[MemoryRef]:
        """The memories that the answering call was shown, best first."""
        return provenance.shown(self.trajectory)

    @property
    def writing(self) -> list[Step]:
        """The steps that could change the memory."""
        return provenance.writing(self.trajectory)

    @property
    def writers(self) -> dict[str, int]:
        """The step that wrote each memory last."""
        return provenance.writers(self.trajectory)

    @property
    def readings(self) -> list[Step]:
        """The steps that read a section of a document into the memory."""
        return [step for step in self.trajectory.steps if step.role == READ and step.error is None]

    def memories_read(self) -> list[str]:
        """The memory after each reading step. A thought that was not ended wrote nothing: the memory stays."""
        memories: list[str] = []
        for step in self.readings:
            written = carried_text(step.text)
            memories.append(written if written is not None else memories[-1] if memories else "")
        return memories

    def memories_written(self) -> list[tuple[str, ...]]:
        """The memories after each writing step, oldest first, without what was there before the rollout."""
        held: dict[str, str] = {}
        after: list[tuple[str, ...]] = []
        for step in self.writing:
            for op in (op for op in step.memory_ops if op.applied and op.id and op.op != "noop"):
                held.pop(op.id or "", None)
                if op.op in ("add", "update"):
                    held[op.id or ""] = op.text
            after.append(tuple(held.values()))
        return after

    def memory(self) -> str:
        """All that the rollout remembered in the end, without what was there before."""
        if self.task.kind == "reading":
            return next(reversed(self.memories_read()), "")
        return "".join(next(reversed(self.memories_written()), ()))

    def told(self) -> str:
        """All that it was given to remember: the conversation, or the document."""
        if self.task.kind == "reading":
            return document.told(document.split(self.task.request).document)
        return "".join(message.content for turn in self.task.conversation for message in turn.messages)
