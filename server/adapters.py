"""Which adapter version each alias stands for: watches the registry, loads, checks, flips, drains, unloads.

A request pins each alias to a version once and keeps it to its end. A new version is loaded under its own immutable name,
compared with its manifest, and only then the alias is flipped, in one assignment; the old version is unloaded when the last
request that names it has ended. A version that does not fit is refused, with the reason in the list, and the old one stays, unless
it is retired: such a version answers nothing that begins now, and its weights are deleted once it is unloaded.

A canary is loaded and checked beside the version in force, and answers the sessions that fall under its share (canary_routing.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from recollect.canary import Session
from recollect.errors import AdapterRefused, EngineError, EngineUnavailable, NotFound, RecollectError
from recollect.memory import LOCAL_TENANT
from recollect.model import Frozen
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.train_lock import trainer_absent
from server.adapter_loading import AdapterLoading
from server.canary_routing import CanaryState, RecentSessions, Route, Trials
from server.engines.base import Engine

logger = logging.getLogger(__name__)

POLL_S = 0.5
MAX_MISSES = 3
"""So many health checks in a row fail before requests are refused: a busy engine may miss one, and then still answers."""


class Pins(NamedTuple):
    """The versions that a request keeps. `release` must be called once, when it has ended, late steps included."""

    policies: Mapping[str, Policy]
    release: Callable[[], None]
    of_engine: bool = True
    """False for who calls nothing of this server's engine."""

    @property
    def versioned(self) -> bool:
        """True if an adapter is among them."""
        return any(policy.adapter for policy in self.policies.values())


class AdapterVersion(Frozen):
    """One published version. `refused` says why it is not served although it was made current, `retired` why it never will be."""

    version: int
    name: str
    loaded: bool
    in_flight: int
    refused: str | None = None
    retired: str | None = None


class AdapterState(Frozen):
    """A policy: the version that the registry points at (None: the base), what new requests are answered with, all versions.

    `serving` is None until the engine was reached. `canary` is None without one in force.
    """

    policy: str
    pool: str
    current: int | None
    serving: str | None
    versions: list[AdapterVersion]
    canary: CanaryState | None = None


class Adapters:
    """The aliases of one pool. `refresh` alone changes them, one at a time; a request reads them in one step of the loop."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        *,
        aliases: Iterable[str],
        max_rank: int,
        trials: Trials,
        session_idle_s: float,
        on_settling: Callable[[], None] = lambda: None,
        pool: str = LOCAL_TENANT,
    ) -> None:
        self.settled = False
        """True once the engine is ready and every alias's version is loaded in it."""
        self.detail = "the engine is starting"
        self._engine = engine
        self._registry = registry
        self._aliases = sorted(aliases)
        self._loading = AdapterLoading(engine, registry, max_rank=max_rank, pool=pool)
        self._on_settling = on_settling
        self._pool = pool
        self._trials = trials
        self._sessions = RecentSessions(session_idle_s)
        self._serving: dict[str, Policy] = {}
        self._canaries: dict[str, Route] = {}
        self._loaded: set[Policy] = set()
        self._refused: dict[tuple[str, int], str] = {}
        self._in_flight: Counter[Policy] = Counter()
        self._idle: dict[Policy, asyncio.Event] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._told: dict[str, str] = {}
        self._misses = 0
        self._halted = False
        self._why_not: Callable[[], EngineUnavailable] | None = None
        self._pinned = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._changing = asyncio.Lock()  # for _serving, _loaded and _refused: one change at a time, from check to flip
        self._wake = asyncio.Event()

    def pin(self, aliases: Iterable[str], tenant: str, session: Session | None = None) -> Pins:
        """The versions that the aliases stand for now, kept loaded until `release`. Raises EngineUnavailable.

        What was learned from one pool's tenant answers that tenant alone: others get the base model. Without a `session` no canary answers.
        """
        if not self.settled:
            raise self._why_not() if self._why_not else EngineUnavailable(f"no answer now: {self.detail}", retry_after_s=2)
        serving: Mapping[str, Policy] = self._serving if tenant == self._pool else {}
        if session is not None and tenant == self._pool:
            self._sessions.asked(session)
            tried = {alias: route.policy for alias, route in self._canaries.items() if route.takes(tenant, session)}
            serving = {**serving, **tried} if tried else serving
        policies = {alias: serving.get(alias) or Policy(base=self._engine.base) for alias in aliases}
        pinned = list(policies.values())
        self._in_flight.update(pinned)
        self._pinned += 1
        self._quiet.clear()
        return Pins(policies, lambda: self._release(pinned))

    async def halt(self, why: Callable[[], EngineUnavailable]) -> None:
        """Leave the engine alone until `go_on`. What is pinned stays so; nothing more is, with this error, until it is settled again."""
        self._halted = True
        async with self._changing:  # a round that is looking at the engine now ends first
            self._why_not = why
            self._unsettle(why().message)

    async def quiet(self, timeout_s: float) -> bool:
        """Wait until no request holds pins any more; whether that came within the time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        return self._quiet.is_set()

    def go_on(self) -> None:
        """Watch the engine again: when it is ready and every version is checked anew, requests are answered."""
        self._halted = False
        self._wake.set()

    async def watch(self) -> None:
        """Follow the registry and the engine's health for ever."""
        while True:
            await self.refresh()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            self._wake.clear()

    async def refresh(self, *, retry_refused: bool = False) -> None:
        """Bring the engine to what the registry points at. Never raises for what the engine or a version does wrong."""
        async with self._changing:
            if retry_refused:
                self._refused.clear()
            try:
                await self._follow()
            except EngineUnavailable as exc:
                self._unsettle(exc.message)
            except Exception as exc:  # noqa: BLE001 - the watcher must outlive whatever one round meets
                logger.warning("the adapters stay as they are: %s: %s", type(exc).__name__, exc)

    def lost(self) -> None:
        """The engine does not know a version that was loaded: it was restarted. Load them again before the next answer."""
        self._unsettle("the engine was restarted and its adapters are being loaded")
        self._wake.set()

    async def promote(self, policy: str, version: int | None) -> None:
        """Make a version current and serve it. Raises NotFound, AdapterRefused, EngineUnavailable; then the pointer is where it was."""
        before = await self._before(policy)
        if not self.settled and await asyncio.to_thread(self._registry.canary, policy, self._pool) is not None:
            raise self._unchecked(policy)  # before the pointer is touched, which would end the canary
        await asyncio.to_thread(self._registry.set_current, policy, version, self._pool)
        await self._take(policy, version, before)

    async def roll_back(self, policy: str) -> None:
        """Take the canary back; without one, serve the parent of the current version.

        Raises NotFound, Conflict, AdapterRefused, EngineUnavailable.
        """
        if await asyncio.to_thread(self._registry.canary, policy, self._pool) is not None:
            await asyncio.to_thread(self._registry.rollback, policy, self._pool)
            await self.refresh()
            return
        before = await self._before(policy)
        await self._take(policy, await asyncio.to_thread(self._registry.rollback, policy, self._pool), before)

    async def list(self) -> Sequence[AdapterState]:
        """Every policy and version."""
        return await asyncio.to_thread(self._states)

    async def close(self) -> None:
        """Unload everything, so that an engine that goes on keeps no version under a name that will mean another one."""
        drains = tuple(self._drains)
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
        self.settled, self.detail = False, "the server is ending"
        for policy in tuple(self._loaded):
            await self._unload(policy)

    async def _before(self, alias: str) -> int | None:
        """The version to go back to: what the pointer says, or if that is broken, what serves."""
        try:
            return await asyncio.to_thread(self._registry.current, alias, self._pool)
        except AdapterRefused:
            serving = self._serving.get(alias)
            return serving.version if serving else None

    async def _take(self, alias: str, version: int | None, before: int | None) -> None:
        """Follow the pointer to `version` now; if that is refused, set it back."""
        if version is not None:
            self._refused.pop((alias, version), None)
        await self.refresh()
        if not self.settled:
            await asyncio.to_thread(self._registry.set_current, alias, before, self._pool)
            raise self._unchecked(alias)
        serving = self._serving.get(alias)
        reason = self._refused.get((alias, version)) if version is not None else None
        if reason is None and alias in self._aliases and (serving is None or serving.version != version):
            reason = f"it could not be taken over, {serving.name if serving else 'nothing'} goes on; see the server's log"
        if reason is not None:
            await asyncio.to_thread(self._registry.set_current, alias, before, self._pool)
            name = f"{alias}@v{version}" if version is not None else f"{alias}@base"
            raise AdapterRefused(f"{name} is refused: {reason}", param="version")

    def _unchecked(self, alias: str) -> EngineUnavailable:
        return EngineUnavailable(f"{alias} stays as it is, a version must be checked first: {self.detail}", retry_after_s=2)

    def _states(self) -> Sequence[AdapterState]:
        return [self._state(alias) for alias in sorted({*self._aliases, *self._registry.policies(self._pool)})]

    def _state(self, alias: str) -> AdapterState:
        serving = self._serving.get(alias)
        try:
            current = self._registry.current(alias, self._pool)
        except AdapterRefused:
            current = None
        versions = [self._version(alias, number) for number in self._registry.versions(alias, self._pool)]
        return AdapterState(
            policy=alias,
            pool=self._pool,
            current=current,
            serving=serving.name if serving else None,
            versions=versions,
            canary=self._canary(alias),
        )

    def _canary(self, alias: str) -> CanaryState | None:
        if (one := self._registry.canary(alias, self._pool)) is None:
            return None
        name, route = f"{alias}@v{one.version}", self._canaries.get(alias)
        return CanaryState(
            version=one.version,
            name=name,
            share=one.canary.share,
            since=one.canary.since,
            until=one.canary.until,
            answers=self.settled and route is not None and route.policy.name == name,
            figures=self._trials.figures(alias, one.version),
        )

    def _version(self, alias: str, number: int) -> AdapterVersion:
        name = f"{alias}@v{number}"
        retired = self._registry.retired(alias, number, self._pool)
        return AdapterVersion(
            version=number,
            name=name,
            loaded=any(policy.name == name for policy in self._loaded),
            in_flight=sum(count for policy, count in self._in_flight.items() if policy.name == name),
            refused=self._refused.get((alias, number)),
            retired=retired.reason if retired else None,
        )

    def _policy(self, alias: str, version: int | None) -> Policy:
        return Policy(base=self._engine.base, adapter=alias if version is not None else None, version=version)

    async def _follow(self) -> None:
        if self._halted:
            return
        health = await self._engine.health()
        if not health.ready:
            self._misses += 1
            if not self.settled or self._misses >= MAX_MISSES:
                self._unsettle(health.detail)
            return
        self._misses = 0
        for alias in self._aliases:
            await self._follow_alias(alias)
            await self._follow_canary(alias)
        if not self.settled:
            self._on_settling()
        self.settled, self.detail, self._why_not = True, health.detail, None
        await self._drop_retired()

    async def _follow_alias(self, alias: str) -> None:
        old = self._serving.get(alias)
        for policy in await self._candidates(alias, old):
            if await self._usable(policy):
                self._serving[alias] = policy
                if old is not None and old != policy:
                    logger.warning("%s is now %s (was %s)", alias, policy.name, old.name)
                    self._drain(old)
                return

    async def _follow_canary(self, alias: str) -> None:
        """Let the canary in force answer its sessions; take back the one that is in force no more."""
        one, old = await asyncio.to_thread(self._registry.canary, alias, self._pool), self._canaries.get(alias)
        policy = self._policy(alias, one.version) if one is not None else None
        if old is not None and old.policy != policy:
            del self._canaries[alias]
            logger.warning("%s is a canary no more", old.policy.name)
            self._drain(old.policy)
        if one is None or policy is None or not await self._usable(policy) or alias in self._canaries:
            return
        if (before := await self._trials.before(alias, one)) is None:
            return
        # From here to the flip nothing is awaited: no session begins between.
        self._canaries[alias] = Route(policy, one.canary, before | self._sessions.going_on())
        logger.warning("%s is a canary: it answers %.0f %% of new sessions", policy.name, 100 * one.canary.share)

    async def _candidates(self, alias: str, old: Policy | None) -> Sequence[Policy]:
        """What to answer with, the first that is usable: what the registry points at, what serves now or its parent, the base."""
        base = self._policy(alias, None)
        if old is not None and old.version is not None and await asyncio.to_thread(self._is_retired, alias, old.version):
            old = None
        try:
            current = await asyncio.to_thread(self._registry.current, alias, self._pool)
            parent = None if old or current is None else await asyncio.to_thread(self._parent, alias, current)
        except (AdapterRefused, NotFound) as exc:
            if self._told.get(alias) != exc.message:
                logger.warning("%s stays as it is: %s", alias, exc.message)
            self._told[alias] = exc.message
            return [old or base, base]
        self._told.pop(alias, None)
        return [self._policy(alias, current), old or self._policy(alias, parent), base]

    def _parent(self, alias: str, version: int) -> int | None:
        """The nearest ancestor that is not retired."""
        return self._registry.standing(alias, self._registry.manifest(alias, version, self._pool).parent, self._pool)

    def _is_retired(self, alias: str, version: int) -> bool:
        try:
            return self._registry.retired(alias, version, self._pool) is not None
        except NotFound:  # it serves from the engine's memory, without its folder
            return False

    async def _drop_retired(self) -> None:
        """Delete the weights of retired versions that no request and no trainer uses: an engine dies if a loaded adapter's files vanish."""
        found = await asyncio.to_thread(self._registry.retired_weights, self._pool)
        if not found:
            return
        with trainer_absent(self._registry.root.parent) as free:  # a trainer samples from frozen versions where they lie
            for alias, version in found if free else ():
                policy = Policy(base="", adapter=alias, version=version)
                if policy.name not in {one.name for one in (*self._loaded, *self._in_flight)}:
                    await self._engine.unload_adapter(policy)  # an attached engine may hold it, from a server that was killed
                    await asyncio.to_thread(self._registry.drop_weights, alias, version, self._pool)

    async def _usable(self, policy: Policy) -> bool:
        if policy.adapter is None or policy.version is None or policy in self._loaded:
            return True
        key = (policy.adapter, policy.version)
        if key in self._refused:
            return False
        try:
            await self._loading.load(policy)
        except EngineUnavailable:
            raise
        except RecollectError as exc:
            self._refused[key] = exc.message
            logger.warning("%s is refused: %s", policy.name, exc.message)
            return False
        self._loaded.add(policy)
        return True

    def _unsettle(self, detail: str) -> None:
        self.settled, self.detail = False, detail
        self._loaded.clear()

    def _release(self, policies: Iterable[Policy]) -> None:
        self._pinned -= 1
        if not self._pinned:
            self._quiet.set()
        for policy in policies:
            self._in_flight[policy] -= 1
            if not self._in_flight[policy]:
                del self._in_flight[policy]
                if idle := self._idle.pop(policy, None):
                    idle.set()

    def _drain(self, policy: Policy) -> None:
        if policy.adapter is not None:
            task = asyncio.create_task(self._unload_when_idle(policy))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    async def _unload_when_idle(self, policy: Policy) -> None:
        if self._in_flight[policy]:
            await self._idle.setdefault(policy, asyncio.Event()).wait()
        async with self._changing:
            answering = [*self._serving.values(), *(route.policy for route in self._canaries.values())]
            if policy in answering or self._in_flight[policy]:
                return
            await self._unload(policy)

    async def _unload(self, policy: Policy) -> None:
        self._loaded.discard(policy)
        try:
            await self._engine.unload_adapter(policy)
        except EngineError as exc:
            logger.warning("%s could not be unloaded: %s", policy.name, exc.message)
