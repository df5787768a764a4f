"""What forgetting does to what learned: versions are retired, candidates in quarantine deleted, recorded rollouts of runs blanked."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from recollect.learned import affected, hashes_of
from recollect.log_redact import redacted_ids
from recollect.quarantine import drop_quarantined
from recollect.registry import Registry
from recollect.retired import Retired
from recollect.run_records import forget_in_runs
from recollect.train_lock import trainer_absent


class Retiring:
    """What one certificate retires. `of` may be called more than once; the properties tell of all calls together."""

    def __init__(self, registry: Registry, home: Path, pool: str, certificate: str) -> None:
        """In the home's trajectory log the trajectories are blanked already."""
        self._registry = registry
        self._home = home
        self._pool = pool
        self.certificate = certificate
        self._named: dict[str, set[int]] = {}
        self._retired: dict[str, set[int]] = {}
        self._quarantined: set[str] = set()
        self._runs: set[str] = set()
        self.was: dict[str, str] = {}
        """By policy the version that was current and is retired."""

    @property
    def named(self) -> tuple[str, ...]:
        """The versions that learned from it, or descend from one that did."""
        return _names(self._named)

    @property
    def retired(self) -> tuple[str, ...]:
        """Those that this certificate retired: of `named` those that were not retired before."""
        return _names(self._retired)

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Candidates that were deleted."""
        return tuple(sorted(self._quarantined))

    @property
    def runs(self) -> tuple[str, ...]:
        """Training runs whose recorded rollouts were blanked, or will be when the run ends."""
        return tuple(sorted(self._runs))

    def now(self) -> dict[str, str]:
        """By policy that lost its version, what its requests are answered with: a version, or the base."""
        found = {policy: self._registry.current(policy, self._pool) for policy in self.was}
        return {policy: "base" if version is None else f"v{version}" for policy, version in found.items()}

    def of(self, trajectory_ids: AbstractSet[str]) -> None:
        """Retire what learned from these trajectories.

        And from any that was forgotten before: the process may have been killed between the log and the registry, and who forgets
        again does not find these trajectories any more.
        """
        hashes = hashes_of(trajectory_ids)
        learned = affected(self._registry, hashes, self._pool)
        every = hashes | hashes_of(redacted_ids(self._home / "trajectories"))
        due = affected(self._registry, every, self._pool)
        for policy, versions in due.items():
            new = self._retire(policy, versions | learned.get(policy, {}))
            self._named.setdefault(policy, set()).update(new, learned.get(policy, ()))
        self._quarantined.update(drop_quarantined(self._registry, every, due, self._pool))
        with trainer_absent(self._home) as absent:
            self._runs.update(forget_in_runs(self._home, every, training=not absent))

    def _retire(self, policy: str, versions: Mapping[int, str]) -> AbstractSet[int]:
        """Those that were not retired before."""
        registry, pool = self._registry, self._pool
        standing = {
            version: Retired(certificate=self.certificate, reason=reason)
            for version, reason in versions.items()
            if registry.retired(policy, version, pool) is None
        }
        before = registry.retire(policy, standing, pool)
        self._retired.setdefault(policy, set()).update(standing)
        if before is not None:
            self.was.setdefault(policy, f"v{before}")
        return standing.keys()


def _names(versions: Mapping[str, AbstractSet[int]]) -> tuple[str, ...]:
    return tuple(f"{policy}@v{version}" for policy in sorted(versions) for version in sorted(versions[policy]))
