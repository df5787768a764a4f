"""Several engines as one: a conversation's calls go to one of them while it is not busier than others; those that are down rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar, cast

from recollect.errors import ConfigurationError, EngineError, EngineUnavailable, NotFound
from recollect.messages import Message
from recollect.policy import Policy
from recollect.settings import Rest
from recollect.tools import Tools
from server.engines.affinity import conversation_key, in_turn, prompt_key
from server.engines.base import Chunk, Engine, Health, Sampling
from server.engines.breaker import Clock
from server.engines.member import Member
from server.engines.rests import Rests, rest_of

T = TypeVar("T")


class EnginePool:
    """Engines that serve the same base model. An adapter is loaded on all; one that was down gets it on its return."""

    def __init__(self, engines: Sequence[Engine], clock: Clock = time.monotonic) -> None:
        """`clock`: seconds, by which rests are measured. Raises ConfigurationError without an engine."""
        if not engines:
            raise ConfigurationError("engine.urls is empty; give the URL of at least one server", param="engine.urls")
        self._members = [Member(engine, number, clock) for number, engine in enumerate(engines)]
        self._adapters: dict[str, tuple[Policy, str]] = {}

    @property
    def base(self) -> str:
        """The base model's name. EngineUnavailable while no engine was reached."""
        unreached: EngineUnavailable | None = None
        for member in self._members:
            try:
                return member.engine.base
            except EngineUnavailable as exc:
                unreached = exc
        raise unreached or EngineUnavailable("no engine was reached yet")

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All engines, up or down."""
        return tuple(member.engine for member in self._members)

    @property
    def window(self) -> int | None:
        """The smallest window that is known."""
        return min((m.engine.window for m in self._members if m.engine.window is not None), default=None)

    @property
    def exact(self) -> bool:
        """True if all engines are."""
        return all(member.engine.exact for member in self._members)

    @property
    def guided(self) -> bool:
        """True if all engines are."""
        return all(member.engine.guided for member in self._members)

    @property
    def rests(self) -> Rest:
        """How all rest; `none` if one does not, or in another way."""
        found: list[Rest] = [rest_of(engine) for engine in self.engines]
        return found[0] if all(other == found[0] for other in found) else "none"

    def chat(
        self,
        messages: Sequence[Message],
        *,
        policy: Policy,
        sampling: Sampling,
        stream: bool = False,
        salt: str | None = None,
        tools: Tools | None = None,
    ) -> AsyncIterator[Chunk]:
        """Answer a conversation."""
        key = conversation_key(messages, salt) if len(self._members) > 1 else b""
        return self._dispatch(
            policy, key, lambda e: e.chat(messages, policy=policy, sampling=sampling, stream=stream, salt=salt, tools=tools)
        )

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Continue a prompt given as ids."""
        key = prompt_key(prompt_ids, salt) if len(self._members) > 1 else b""
        return self._dispatch(policy, key, lambda e: e.complete(prompt_ids, policy=policy, sampling=sampling, stream=stream, salt=salt))

    async def encode(self, text: str) -> list[int]:
        """The ids of a text, without added special tokens."""
        return await self._ask(lambda engine: engine.encode(text))

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return await self._ask(lambda engine: engine.decode(ids))

    async def render(self, messages: Sequence[Message]) -> str:
        """The conversation's text under the chat template."""
        return await self._ask(lambda engine: engine.render(messages))

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """How many tokens `chat` would prompt with."""
        return await self._ask(lambda engine: engine.count(messages, tools))

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Load an adapter on every engine that is up. If one refuses it, it is unloaded from the others again."""
        members = self._up()
        if not members:
            raise self._none_up()
        results = await asyncio.gather(*(member.load(policy, path) for member in members), return_exceptions=True)
        refusal = next((r for r in results if isinstance(r, BaseException) and not isinstance(r, EngineUnavailable)), None)
        if refusal is None and not any(policy.name in member.loaded for member in members):
            refusal = self._none_up()
        if refusal is not None:
            await self.unload_adapter(policy)
            raise refusal
        self._adapters[policy.name] = (policy, path)

    async def unload_adapter(self, policy: Policy) -> None:
        """Forget an adapter on all engines, whoever loaded it; requests in flight finish. One that is down forgets it on its return."""
        self._adapters.pop(policy.name, None)
        results = await asyncio.gather(*(member.unload(policy) for member in self._members), return_exceptions=True)
        if failure := next((result for result in results if result is not None), None):
            raise failure

    async def reload(self) -> None:
        """Load all adapters again: the engines were away, and may have lost them. Raises EngineUnavailable, AdapterRefused."""
        for member in self._members:
            member.lost()
            for policy, path in self._adapters.values():
                await member.load(policy, path)

    async def health(self) -> Health:
        """Ready if any engine is; the detail tells of each."""
        found = await asyncio.gather(*(member.engine.health() for member in self._members))
        for member, health in zip(self._members, found, strict=True):
            await member.heard(health)
        return Health(any(health.ready for health in found), "; ".join(health.detail for health in found))

    async def rest(self) -> None:
        """Let all rest; if one does not, the others are woken."""
        resting = [engine for engine in self.engines if isinstance(engine, Rests)]
        results = await asyncio.gather(*(engine.rest() for engine in resting), return_exceptions=True)
        if failure := next((result for result in results if result is not None), None):
            with suppress(EngineError):
                await self.wake()
            raise failure

    async def wake(self) -> None:
        """Wake all. Raises the first failure, after all were tried."""
        resting = [engine for engine in self.engines if isinstance(engine, Rests)]
        results = await asyncio.gather(*(engine.wake() for engine in resting), return_exceptions=True)
        if failure := next((result for result in results if result is not None), None):
            raise failure

    async def start(self) -> None:
        """Start all."""
        await asyncio.gather(*(member.engine.start() for member in self._members))

    async def close(self) -> None:
        """Close all."""
        await asyncio.gather(*(member.engine.close() for member in self._members))

    async def _dispatch(self, policy: Policy, key: bytes, call: Callable[[Engine], AsyncIterator[Chunk]]) -> AsyncGenerator[Chunk]:
        """Call the engine whose turn it is; another, if it turns out to be down before it has answered anything."""
        for member in self._in_turn(key):
            begun = False
            member.in_flight += 1
            try:
                with member.breaker.attempt() as attempt:
                    async with aclosing(self._call(member, policy, call)) as chunks:
                        async for chunk in chunks:
                            if not begun:
                                begun = True
                                attempt.answered()
                            yield chunk
                return
            except EngineUnavailable:
                member.lost()
                if begun:
                    raise
            finally:
                member.in_flight -= 1
        raise self._none_up()

    async def _call(self, member: Member, policy: Policy, call: Callable[[Engine], AsyncIterator[Chunk]]) -> AsyncGenerator[Chunk]:
        """Call one engine. If it has lost an adapter (it was restarted behind our back), load that and call again."""
        await self._ensure(member, policy)
        try:
            async with aclosing(cast("AsyncGenerator[Chunk]", call(member.engine))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except NotFound:
            if policy.name not in self._adapters:
                raise
        member.loaded.clear()
        await self._ensure(member, policy)
        async with aclosing(cast("AsyncGenerator[Chunk]", call(member.engine))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _ask(self, call: Callable[[Engine], Awaitable[T]]) -> T:
        for member in self._in_turn():
            try:
                with member.breaker.attempt():
                    return await call(member.engine)
            except EngineUnavailable:
                member.lost()
        raise self._none_up()

    async def _ensure(self, member: Member, policy: Policy) -> None:
        known = self._adapters.get(policy.name)
        if known is not None and policy.name not in member.loaded:
            await member.load(*known)

    def _up(self) -> list[Member]:
        return [member for member in self._members if not member.breaker.open] or self._being_tried()

    def _being_tried(self) -> list[Member]:
        """A trial may take minutes: where no engine is up, others are let through beside it."""
        return [member for member in self._members if member.breaker.being_tried]

    def _in_turn(self, key: bytes = b"") -> Iterator[Member]:
        """Those that are up, each looked at once more when its turn comes: another call may have found it down, or be trying it."""
        return (member for member in in_turn(self._up(), key) if not member.breaker.open or member.breaker.being_tried)

    def _none_up(self) -> EngineUnavailable:
        left = min(member.breaker.left_s for member in self._members)
        return EngineUnavailable("no engine can be reached; see engine.urls", retry_after_s=max(1, round(left)))
