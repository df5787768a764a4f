"""Records what an agent does while it does it: steps with exact tokens, memory operations, retrieved and cited memories."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from recollect.messages import Message
from recollect.policy import Policy
from recollect.trajectory import MemoryOp, MemoryRef, Step, Usage, now
from server.engines.base import Chunk, Completion, Sampling


@dataclass(slots=True)
class Recorder:
    """The steps of one trajectory, in the order in which they ended."""

    steps: list[Step] = field(default_factory=list[Step])

    @property
    def usage(self) -> Usage:
        """Tokens of all model calls so far."""
        return sum((step.usage for step in self.steps), Usage())

    async def call(
        self,
        chunks: AsyncIterator[Chunk],
        *,
        role: str,
        policy: Policy,
        sampling: Sampling,
        messages: Sequence[Message] = (),
        retrieved: Sequence[MemoryRef] = (),
    ) -> AsyncIterator[Chunk]:
        """Pass on the chunks of one model call and append a step for each of its choices; also if it breaks off."""
        started, clock = now(), time.perf_counter()
        choices: dict[int, Completion] = {}
        error: str | None = None
        try:
            async for chunk in chunks:
                choices.setdefault(chunk.index, Completion(index=chunk.index)).add(chunk)
                yield chunk
        except BaseException as exc:
            error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            duration = time.perf_counter() - clock
            for choice in choices.values() if choices else (Completion(),):
                self.steps.append(
                    Step(
                        index=len(self.steps),
                        role=role,
                        policy=policy,
                        messages=list(messages),
                        text=choice.text,
                        prompt_ids=choice.prompt_ids,
                        completion_ids=choice.token_ids,
                        logprobs=choice.logprobs,
                        finish_reason=choice.finish_reason,
                        sampling=replace(sampling, n=1).fields(),
                        usage=choice.usage,
                        started_at=started,
                        duration_s=duration,
                        retrieved=list(retrieved),
                        error=error,
                    )
                )

    def amend(self, index: int, *, memory_ops: Sequence[MemoryOp] | None = None, cited: Sequence[str] | None = None) -> None:
        """Add to a step what became known after its call: the operations it led to, the memories it cited."""
        update: dict[str, object] = {}
        if memory_ops is not None:
            update["memory_ops"] = list(memory_ops)
        if cited is not None:
            update["cited"] = list(cited)
        self.steps[index] = self.steps[index].model_copy(update=update)
