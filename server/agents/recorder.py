"""Records what an agent does while it does it: steps with exact tokens, memory operations, retrieved and cited memories."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from recollect.messages import Message
from recollect.policy import Policy
from recollect.tools import Tools
from recollect.trajectory import MemoryOp, MemoryRef, Step, Usage, now
from server import tracing
from server.engines.base import Chunk, Completion, Sampling


@dataclass(slots=True)
class Recorder:
    """The steps of one trajectory, in the order in which they ended.

    `trajectory_id` is what memories written on the way name as their origin, and what their ids are derived from. Once the steps
    hold `max_tokens` tokens, later ones keep what was sampled as text, and the counts, alone: a reading of any length fits.
    """

    steps: list[Step] = field(default_factory=list[Step])
    trajectory_id: str = field(default_factory=lambda: uuid4().hex)
    max_tokens: int | None = None
    whole: bool = True
    """False once a step was recorded without its ids and messages."""
    _num_kept: int = 0

    @property
    def usage(self) -> Usage:
        """Tokens of all model calls so far."""
        return sum((step.usage for step in self.steps), Usage())

    def of_role(self, role: str) -> list[Step]:
        """The steps of one module that did not fail."""
        return [step for step in self.steps if step.role == role and step.error is None]

    async def call(
        self,
        chunks: AsyncIterator[Chunk],
        *,
        role: str,
        policy: Policy,
        sampling: Sampling,
        alias: str | None = None,
        messages: Sequence[Message] = (),
        prompt_ids: Sequence[int] | None = None,
        retrieved: Sequence[MemoryRef] = (),
        tools: Tools | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Pass on the chunks of one model call and append a step for each of its choices; also if it breaks off.

        `alias` is what the agent calls the policy by. `prompt_ids` are those that were sent, where the prompt was sent as ids.
        """
        started, clock = now(), time.perf_counter()
        choices: dict[int, Completion] = {}
        total: Usage | None = None
        failure: BaseException | None = None
        call = tracing.model_call(role, policy, alias, sampling)
        chunks = call.over(chunks)
        try:
            async with AsyncExitStack() as stack:
                if (aclose := getattr(chunks, "aclose", None)) is not None:
                    stack.push_async_callback(aclose)  # whoever stops listening stops the engine too
                async for chunk in chunks:
                    choices.setdefault(chunk.index, Completion(index=chunk.index)).add(chunk)
                    total = chunk.usage or total
                    yield chunk
        except BaseException as exc:
            failure = exc
            raise
        finally:
            common: dict[str, Any] = {
                "role": role,
                "policy": policy,
                "alias": alias,
                "guided": sampling.bent or (tools is not None and tools.forced),
                "messages": [_light(message) for message in messages],
                "sampling": replace(sampling, n=1).fields(),
                "started_at": started,
                "duration_s": time.perf_counter() - clock,
                "retrieved": list(retrieved),
                "error": None if failure is None else _reason(failure),
            }
            ordered = [choices[index] for index in sorted(choices)] or [Completion()]
            prompt = next((c.prompt_ids for c in ordered if c.prompt_ids is not None), None) or _listed(prompt_ids)
            shares = _shares(ordered, total, len(prompt or ()))
            call.end([choice.finish_reason for choice in ordered if choice.finish_reason], sum(shares, Usage()), failure)
            if not self._keeps(sum((share.total_tokens for share in shares), 0)):
                common["messages"], prompt = [], None
                for choice in ordered:
                    choice.token_ids = choice.logprobs = None
            for choice, usage in zip(ordered, shares, strict=True):
                self.steps.append(
                    Step(
                        index=len(self.steps),
                        text=choice.text,
                        reasoning=choice.reasoning,
                        tool_calls=choice.calls,
                        prompt_ids=prompt,
                        completion_ids=choice.token_ids,
                        logprobs=choice.logprobs,
                        finish_reason=choice.finish_reason,
                        usage=usage,
                        **common,
                    )
                )

    def _keeps(self, num_tokens: int) -> bool:
        """Whether a call's tokens are kept. Once some are not, none are: what is kept is a beginning without gaps."""
        self._num_kept += num_tokens
        self.whole = self.whole and (self.max_tokens is None or self._num_kept <= self.max_tokens)
        return self.whole

    def begin_operation(self, role: str, retrieved: Sequence[MemoryRef] = ()) -> int:
        """Append a step without a model call, so that the memories it writes can name it; `amend` it with what was done."""
        self.steps.append(Step(index=len(self.steps), role=role, started_at=now(), retrieved=list(retrieved)))
        return len(self.steps) - 1

    def amend(self, index: int, *, memory_ops: Sequence[MemoryOp] | None = None, cited: Sequence[str] | None = None) -> None:
        """Add to a step what became known after its call: the operations it led to, the memories it cited."""
        update: dict[str, object] = {}
        if memory_ops is not None:
            update["memory_ops"] = list(memory_ops)
        if cited is not None:
            update["cited"] = list(cited)
        self.steps[index] = self.steps[index].model_copy(update=update)


def _light(message: Message) -> Message:
    """The message with its image's hash for the image, which the trajectory's request holds already."""
    if message.image is None:
        return message
    return message.model_copy(update={"image": f"sha256:{hashlib.sha256(message.image.encode()).hexdigest()}"})


def _reason(exc: BaseException) -> str:
    if isinstance(exc, GeneratorExit | asyncio.CancelledError):
        return "cancelled: nobody was listening any more"
    return f"{type(exc).__name__}: {exc}"


def _listed(ids: Sequence[int] | None) -> list[int] | None:
    return None if ids is None else list(ids)


def _shares(choices: Sequence[Completion], total: Usage | None, num_prompt: int) -> list[Usage]:
    """What each choice used. The prompt counts once, with the first choice; so do completion tokens that no ids tell apart.

    Without the engine's own count (a call that broke off) the ids that came are counted.
    """
    known = [len(choice.token_ids or ()) for choice in choices]
    if total is None:
        total = Usage(prompt_tokens=num_prompt if sum(known) else 0, completion_tokens=sum(known))
    first = max(0, total.completion_tokens - sum(known[1:]))
    shares = [Usage(completion_tokens=count) for count in known]
    shares[0] = Usage(prompt_tokens=total.prompt_tokens, completion_tokens=first)
    return shares
