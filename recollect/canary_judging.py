"""Judging a canary: rewards of the log are read as they come, and what they decide is done, by whichever process sees it first."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta

from recollect.adapter_story import DAY
from recollect.canary import Ended, Figures, OpenCanary, canary_in
from recollect.canary_rewards import CanaryRewards
from recollect.errors import AdapterRefused, NotFound
from recollect.log_tail import LogTail
from recollect.memory import LOCAL_TENANT
from recollect.quarantine import put_aside
from recollect.registry import Registry
from recollect.retired import Retired
from recollect.trajectory import now

logger = logging.getLogger(__name__)
CERTIFICATE = "canary"


class CanaryTrial:
    """One canary, and what the log says of it so far. Not thread-safe."""

    def __init__(self, registry: Registry, policy: str, one: OpenCanary, idle: timedelta, pool: str = LOCAL_TENANT) -> None:
        """`idle`: in which a session ends by itself. The log is that of the registry's home."""
        self.one = one
        self.rewards = CanaryRewards(policy, one, pool, idle)
        self._registry = registry
        self._policy = policy
        self._pool = pool
        self._tail = LogTail(registry.root.parent / "trajectories", one.canary.since - idle)

    @property
    def figures(self) -> Figures:
        """What the rewards say so far."""
        return self.rewards.comparison.figures()

    def read(self) -> None:
        """Read what is new in the log. Raises NewerLog, OSError."""
        for event in self._tail.new():
            with suppress(KeyError, TypeError, ValueError):  # a body that is none: `recollect trajectories` names it
                self.rewards.add(event)

    def decided(self, moment: datetime) -> Ended | None:
        """What is decided by now; None while nothing is.

        When its time is over it is taken back: the version in force is the one of which more is known.
        """
        if (decided := self.rewards.comparison.decided) is not None or moment < self.one.canary.until:
            return decided
        reason = f"undecided after {self.one.canary.max_hours:g} hours: {self.figures.said}"
        return Ended(verdict="rolled_back", reason=reason, figures=self.figures)

    def judge(self, moment: datetime | None = None) -> Ended | None:
        """Read what is new and do what is decided; None while nothing is, and where it was ended meanwhile.

        Raises AdapterRefused, NewerLog, OSError.
        """
        self.read()
        ended = self.decided(moment or now())
        return ended if ended is not None and self.end(ended) else None

    def end(self, ended: Ended) -> bool:
        """End the canary; False if it was ended meanwhile. Raises AdapterRefused."""
        if not self._registry.end_canary(self._policy, self.one.version, ended, self._pool):
            return False
        logger.warning("canary %s@v%d: %s: %s", self._policy, self.one.version, ended.verdict.replace("_", " "), ended.reason)
        put_away(self._registry, self._policy, self._pool)
        return True


def put_away(registry: Registry, policy: str, pool: str = LOCAL_TENANT) -> None:
    """Put canaries that were taken back into quarantine, and retire their versions. What a killed process left undone is done."""
    registry.settle_canaries(policy, pool)
    for version in registry.versions(policy, pool):
        with suppress(AdapterRefused, NotFound):  # it is retired for another reason, or cannot be read: then it answers nothing anyway
            canary = canary_in(registry.path(policy, version, pool))
            if canary is None or canary.ended is None or canary.ended.verdict != "rolled_back":
                continue
            if registry.retired(policy, version, pool) is None:
                _put_away(registry, policy, version, canary.ended.reason, pool)


def _put_away(registry: Registry, policy: str, version: int, reason: str, pool: str) -> None:
    def still_there() -> None:
        registry.verify(policy, version, pool)

    said = f"as canary {policy}@v{version}: {reason}"
    put_aside(registry, registry.path(policy, version, pool), registry.manifest(policy, version, pool), [said], pool, check=still_there)
    registry.retire(policy, {version: Retired(certificate=CERTIFICATE, reason=f"taken back as a canary: {reason}")}, pool)


def trial_of(registry: Registry, policy: str, idle: timedelta, pool: str = LOCAL_TENANT) -> CanaryTrial | None:
    """The canary of a policy that is in force, the log read up to now; None without one. Raises NewerLog."""
    if (one := registry.canary(policy, pool)) is None:
        return None
    trial = CanaryTrial(registry, policy, one, idle, pool)
    trial.read()
    return trial


def judged(registry: Registry, policy: str, idle: timedelta, pool: str = LOCAL_TENANT) -> str | None:
    """Judge a policy's canary by the log as it is now, and tell what became of it; None without one.

    Raises AdapterRefused, NewerLog, OSError.
    """
    put_away(registry, policy, pool)
    if (trial := trial_of(registry, policy, idle, pool)) is None:
        return None
    name = f"{policy}@v{trial.one.version}"
    if (ended := trial.judge()) is not None:
        return f"{name} was {'promoted' if ended.verdict == 'promoted' else 'taken back'}: {ended.reason}"
    if registry.canary(policy, pool) is None:
        return f"{name} was ended meanwhile"
    return f"{name} is a canary until {trial.one.canary.until:{DAY}} at most: {trial.figures.said}"
