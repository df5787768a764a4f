"""The adapter registry: published versions of each policy on disk, and which one is current.

`<root>/<pool>/<policy>/v<N>/` holds `adapter_model.safetensors`, `adapter_config.json` and `manifest.json`; a retired version
has a `retired.json` and no weights. A version is written beside its place and renamed into it, `current` is replaced by rename:
a crash leaves the old state or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from recollect.canary import CANARY, Canary, Ended, OpenCanary, canary_in, keep_canary
from recollect.errors import AdapterRefused, Conflict, InvalidRequest, NotFound
from recollect.manifest import Manifest
from recollect.memory import LOCAL_TENANT, TENANT
from recollect.policy import ALIAS
from recollect.retired import RETIRED, Retired, retired_in

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
_CURRENT = "current"
_BASE = "base"
_VERSION = re.compile(r"v([1-9][0-9]*)")
_INCOMING = ".incoming-"
_MADE_CURRENT = "it was made current by hand"
_BY_HAND = "it was ended by hand"


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Registry:
    """Versions of policies under one root. A pool is a tenant's name; each pool's adapters serve that pool alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def policies(self, pool: str = LOCAL_TENANT) -> list[str]:
        """Policies of which a version was published, by name."""
        return [policy for policy in self.known(pool) if self.versions(policy, pool)]

    def known(self, pool: str = LOCAL_TENANT) -> list[str]:
        """Policies that have a folder, by name, those without a version too."""
        folder = self.root / _checked_pool(pool)
        return sorted(path.name for path in folder.iterdir() if ALIAS.fullmatch(path.name)) if folder.is_dir() else []

    def versions(self, policy: str, pool: str = LOCAL_TENANT) -> list[int]:
        """Published versions, ascending."""
        folder = self._folder(policy, pool)
        if not folder.is_dir():
            return []
        found = (_VERSION.fullmatch(path.name) for path in folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def next_version(self, policy: str, pool: str = LOCAL_TENANT) -> int:
        """The number that the next published version will have."""
        return max(self.versions(policy, pool), default=0) + 1

    def current(self, policy: str, pool: str = LOCAL_TENANT) -> int | None:
        """The version that requests are answered with; None: the base model."""
        try:
            text = (self._folder(policy, pool) / _CURRENT).read_text("utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        if text == _BASE:
            return None
        if not (match := _VERSION.fullmatch(text)):
            raise AdapterRefused(f"{policy}'s pointer says {text!r}, not v<number>; promote a version to mend it", param="policy")
        return int(match[1])

    def path(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> Path:
        """The folder of a published version. Raises NotFound."""
        folder = self._folder(policy, pool) / f"v{version}"
        if not folder.is_dir():
            raise NotFound(f"no version {version} of policy {policy!r} in pool {pool!r}", param="version", code="adapter_not_found")
        return folder

    def manifest(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> Manifest:
        """What a version is and was trained on. Raises NotFound, AdapterRefused for one that cannot be read."""
        file = self.path(policy, version, pool) / MANIFEST
        try:
            return Manifest.model_validate_json(file.read_bytes())
        except FileNotFoundError as exc:
            raise AdapterRefused(f"{policy}@v{version} has no {MANIFEST}", param="version") from exc
        except ValidationError as exc:
            raise AdapterRefused(f"{policy}@v{version}: {MANIFEST} is not valid: {exc.errors()[0]['msg']}", param="version") from exc

    def verify(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> Manifest:
        """The manifest, after checking that the weights are those it names. Raises AdapterRefused, also for a retired version."""
        self._check_standing(policy, version, pool)
        manifest = self.manifest(policy, version, pool)
        weights = self.path(policy, version, pool) / WEIGHTS
        if not weights.is_file() or file_sha256(weights) != manifest.sha256:
            raise AdapterRefused(f"{policy}@v{version}: {WEIGHTS} is not what the manifest names; publish it again", param="version")
        return manifest

    def of_run(self, policy: str, run_id: str, pool: str = LOCAL_TENANT) -> Manifest | None:
        """The version that a training run published; None if it published none. Versions that cannot be read are none of it."""
        for version in reversed(self.versions(policy, pool)):
            with suppress(AdapterRefused):
                if (manifest := self.manifest(policy, version, pool)).run_id == run_id:
                    return manifest
        return None

    def publish(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        pool: str = LOCAL_TENANT,
        make_current: bool = True,
        canary: Canary | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Path:
        """Copy the adapter in `folder` to its place as `manifest.version`, and point `current` at it, or let it begin as a `canary`.

        Raises AdapterRefused if a file is missing, the weights are not those of the manifest, or the parent is retired; Conflict
        if the version is not the next one, a canary is in force, or the version beside which this one is to be it is not current;
        what `check` raises, which is called when nobody else can publish or retire.
        """
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                raise AdapterRefused(f"{folder} has no {name}", param="folder")
        if file_sha256(folder / WEIGHTS) != manifest.sha256:
            raise AdapterRefused(f"{WEIGHTS} does not have the sha256 that the manifest names", param="sha256")
        policy = manifest.policy
        with self.writing(policy, pool) as home:
            expected = self.next_version(policy, pool)
            if manifest.version != expected:
                raise Conflict(f"the next version of {policy!r} is {expected}, not {manifest.version}", param="version")
            if manifest.parent is not None and manifest.parent in self.versions(policy, pool):
                self._check_standing(policy, manifest.parent, pool)
            self._check_room(policy, canary, pool, make_current=make_current)
            check()
            incoming = home / f"{_INCOMING}{uuid.uuid4().hex}"
            incoming.mkdir()
            for name in (WEIGHTS, CONFIG):
                shutil.copyfile(folder / name, incoming / name)
            (incoming / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
            if canary is not None:
                keep_canary(incoming, canary)
            for file in incoming.iterdir():
                _sync(file)
            _sync(incoming)
            place = home / f"v{manifest.version}"
            incoming.rename(place)
            _sync(home)
            if make_current and canary is None:
                self._point(home, manifest.version)
            return place

    def canary(self, policy: str, pool: str = LOCAL_TENANT) -> OpenCanary | None:
        """The canary that is in force; None without one, and where the pointer cannot be read. What cannot be read is in force nowhere."""
        with suppress(AdapterRefused):
            current = self.current(policy, pool)
            for version, canary in self._begun(policy, pool):
                if canary.over == current and self.retired(policy, version, pool) is None:
                    return OpenCanary(version, canary)
        return None

    def tried(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> bool:
        """Whether a version was published as a canary. Raises NotFound."""
        return (self.path(policy, version, pool) / CANARY).is_file()

    def end_canary(self, policy: str, version: int, ended: Ended, pool: str = LOCAL_TENANT) -> bool:
        """End the canary in force: all sessions are answered with it from now on, or none. False if it is not in force any more.

        Raises AdapterRefused.
        """
        with self.writing(policy, pool) as home:
            open_ = self.canary(policy, pool)
            if open_ is None or open_.version != version:
                return False
            if ended.verdict == "promoted":
                self._point(home, version)
            _end(home, open_, ended)
            return True

    def settle_canaries(self, policy: str, pool: str = LOCAL_TENANT) -> None:
        """Write down that canaries have ended whose end was not: a process died before, or knew of no canaries."""
        with self.writing(policy, pool) as home:
            self._settle_canaries(home, policy, pool)

    def set_current(self, policy: str, version: int | None, pool: str = LOCAL_TENANT) -> None:
        """Point `current` at a version, or with None at the base model. It ends a canary that is in force.

        Raises NotFound, also for a policy without versions; AdapterRefused for a retired one.
        """
        if version is not None:
            self.path(policy, version, pool)
        elif not self.versions(policy, pool):
            known = ", ".join(self.policies(pool)) or "none yet"
            raise NotFound(f"no version of policy {policy!r} was published; published: {known}", param="policy", code="adapter_not_found")
        with self.writing(policy, pool) as home:
            if version is not None:
                self._check_standing(policy, version, pool)
            self._settle_canaries(home, policy, pool)
            open_ = self.canary(policy, pool)
            if open_ is not None and open_.version != version:  # first, or it would be in force again where the pointer stays
                _end(home, open_, Ended(verdict="rolled_back", reason=_BY_HAND))
            if version is not None:
                self._want_again(home, version)
            self._point(home, version)
            self._settle_canaries(home, policy, pool)

    def rollback(self, policy: str, pool: str = LOCAL_TENANT) -> int | None:
        """Go back to the current version's nearest ancestor that is not retired; None: to the base model.

        While a canary is in force it is that which ends, and the version beside it goes on. Raises Conflict if the base is current already.
        """
        current = self.current(policy, pool)
        if self.canary(policy, pool) is not None:
            self.set_current(policy, current, pool)
            return current
        if current is None:
            raise Conflict(f"policy {policy!r} answers with the base model already", param="policy")
        parent = self.standing(policy, self.manifest(policy, current, pool).parent, pool)
        self.set_current(policy, parent, pool)
        return parent

    def retired(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> Retired | None:
        """Why a version may answer no more; None if it may. Raises NotFound."""
        return retired_in(self.path(policy, version, pool))

    def standing(self, policy: str, version: int | None, pool: str = LOCAL_TENANT) -> int | None:
        """The version, or its nearest ancestor that is not retired; None: the base model. Raises NotFound, AdapterRefused."""
        while version is not None and self.retired(policy, version, pool):
            version = self.manifest(policy, version, pool).parent
        return version

    def retire(self, policy: str, versions: Mapping[int, Retired], pool: str = LOCAL_TENANT) -> int | None:
        """Let versions answer no more. If a retired one is current, its nearest ancestor that is not becomes it, or the base.

        Returns the version that was current if it gave way. The weights stay until `drop_weights`: an engine may have them loaded.
        """
        with self.writing(policy, pool) as home:
            for version, why in versions.items():
                incoming = home / f"{_INCOMING}{RETIRED}"
                incoming.write_text(why.model_dump_json(indent=1) + "\n", "utf-8")
                _sync(incoming)
                incoming.replace(self.path(policy, version, pool) / RETIRED)
                _sync(self.path(policy, version, pool))
            with suppress(AdapterRefused):  # a pointer that says nothing points at none of them
                current = self.current(policy, pool)
                left = self._standing_or_base(policy, current, pool)
                if left != current:
                    self._point(home, left)
                    return current
        return None

    def retired_weights(self, pool: str = LOCAL_TENANT) -> list[tuple[str, int]]:
        """Policy and number of the retired versions whose weights are still there."""
        found = [(policy, version) for policy in self.known(pool) for version in self.versions(policy, pool)]
        return [one for one in found if self.retired(*one, pool) and (self.path(*one, pool) / WEIGHTS).exists()]

    def drop_weights(self, policy: str, version: int, pool: str = LOCAL_TENANT) -> None:
        """Delete a retired version's weights, once no engine has them loaded. The manifest stays. Raises Conflict for one not retired."""
        if self.retired(policy, version, pool) is None:
            raise Conflict(f"{policy}@v{version} is not retired: its weights stay", param="version")
        folder = self.path(policy, version, pool)
        (folder / WEIGHTS).unlink(missing_ok=True)
        _sync(folder)

    def settle(self, policy: str, pool: str = LOCAL_TENANT) -> None:
        """Wait until a publication in progress has ended."""
        with self.writing(policy, pool):
            pass

    def _begun(self, policy: str, pool: str) -> Generator[tuple[int, Canary]]:
        """Versions that are canaries and of which no end is written down, the newest first."""
        files = self._folder(policy, pool).glob(f"v*/{CANARY}")
        found = (_VERSION.fullmatch(file.parent.name) for file in files)
        for version in sorted((int(match[1]) for match in found if match), reverse=True):
            with suppress(AdapterRefused):
                canary = canary_in(self._folder(policy, pool) / f"v{version}")
                if canary is not None and canary.ended is None:
                    yield version, canary

    def _settle_canaries(self, home: Path, policy: str, pool: str) -> None:
        in_force = self.canary(policy, pool)
        try:
            current = self.current(policy, pool)
        except AdapterRefused:  # a pointer that says nothing ends none
            return
        for version, canary in self._begun(policy, pool):
            if in_force is not None and in_force.version == version:
                continue
            if version == current:
                ended = Ended(verdict="promoted", reason=_MADE_CURRENT)
            else:
                retired = self.retired(policy, version, pool)
                ended = Ended(verdict="rolled_back", reason=f"it is retired: {retired.reason}" if retired else _BY_HAND)
            _end(home, OpenCanary(version, canary), ended)

    def _want_again(self, home: Path, version: int) -> None:
        """A canary that was taken back and not yet put away stays, if it is wanted after all."""
        with suppress(AdapterRefused):
            canary = canary_in(home / f"v{version}")
            if canary is not None and canary.ended is not None and canary.ended.verdict == "rolled_back":
                _end(home, OpenCanary(version, canary), Ended(verdict="promoted", reason=_MADE_CURRENT))

    def _check_room(self, policy: str, canary: Canary | None, pool: str, *, make_current: bool) -> None:
        if (make_current or canary is not None) and (open_ := self.canary(policy, pool)) is not None:
            raise Conflict(
                f"{policy}@v{open_.version} is a canary: end it first (recollect adapters judge {policy}; or by hand: "
                f"recollect adapters promote {policy}@v{open_.version}, or rollback {policy})",
                param="policy",
                code="canary_in_force",
            )
        if canary is not None and canary.over != (current := self.current(policy, pool)):
            said = [f"v{version}" if version is not None else "the base model" for version in (canary.over, current)]
            raise Conflict(f"it was to be a canary beside {said[0]} of {policy!r}, and {said[1]} is current now", param="version")

    def _standing_or_base(self, policy: str, version: int | None, pool: str) -> int | None:
        try:
            return self.standing(policy, version, pool)
        except (AdapterRefused, NotFound):  # the chain ends at an ancestor that cannot be read
            return None

    def _check_standing(self, policy: str, version: int, pool: str) -> None:
        if (why := self.retired(policy, version, pool)) is not None:
            raise AdapterRefused(
                f"{policy}@v{version} is retired: {why.reason} (certificate {why.certificate}); "
                f"promote another version, or train again: recollect train --replace {policy}@v{version}",
                param="version",
                code="adapter_retired",
            )

    def _folder(self, policy: str, pool: str) -> Path:
        if not ALIAS.fullmatch(policy):
            raise InvalidRequest(f"{policy!r} is no policy: use lower-case letters, digits and '-'", param="policy")
        return self.root / _checked_pool(pool) / policy

    @contextmanager
    def writing(self, policy: str, pool: str) -> Generator[Path]:
        """The policy's folder under its lock, without what an interrupted publication left behind."""
        home = self._folder(policy, pool)
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in home.glob(f"{_INCOMING}*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield home

    def _point(self, home: Path, version: int | None) -> None:
        incoming = home / f"{_INCOMING}{_CURRENT}"
        incoming.write_text(f"v{version}\n" if version is not None else f"{_BASE}\n", "ascii")
        _sync(incoming)
        incoming.replace(home / _CURRENT)
        _sync(home)


def _end(home: Path, open_: OpenCanary, ended: Ended) -> None:
    keep_canary(home / f"v{open_.version}", open_.canary.model_copy(update={"ended": ended}))


def _checked_pool(pool: str) -> str:
    if not TENANT.fullmatch(pool):
        raise InvalidRequest(f"{pool!r} is no pool: use lower-case letters, digits, '-' and '_'", param="pool")
    return pool


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
