"""The rerankers of all tenants, and what an operator does with them: look, freeze, roll back, forget.

`<root>/<tenant>/<space>/` holds one reranker's files; the space is the embedder's, whose vectors its weights belong to.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from recollect.errors import InvalidRequest, NotFound
from recollect.memory import TENANT
from recollect.model import Frozen
from recollect.settings import RmmSettings
from server.agents.rmm.online import FROZEN, OnlineReranker
from server.agents.rmm.states import StateFiles


class RerankerState(Frozen):
    """Where one reranker stands. `kept` are the steps that can be gone back to, `learned` the answers it learned from."""

    space: str
    step: int
    learned: int
    frozen: bool
    kept: tuple[int, ...]


class Rerankers:
    """One object per process and home; any number of processes may share a home. Its methods block."""

    def __init__(self, root: Path, settings: RmmSettings) -> None:
        self._root = root
        self._settings = settings
        self._open: dict[Path, OnlineReranker] = {}
        self._lock = threading.Lock()

    def of(self, tenant: str, space: str, dimension: int) -> OnlineReranker:
        """The reranker of a tenant for the vectors of an embedder. Raises ConfigurationError for a damaged file."""
        folder = self._folder(tenant) / _folder_name(space)
        with self._lock:
            if folder not in self._open:
                self._open[folder] = OnlineReranker(folder, dimension, self._settings)
            return self._open[folder]

    def learn(self, tenant: str, key: str, rewards: Mapping[int, float]) -> None:
        """Learn from what came of the draw `key`; no-op where it is not known. Raises OSError if nothing could be saved."""
        folder = self._folder(tenant)
        for reranker in [opened for path, opened in self._open.items() if path.parent == folder]:
            reranker.learn(key, rewards)

    def states(self, tenant: str) -> Sequence[RerankerState]:
        """As saved on the disk, one for each space that was learned in."""
        found: list[RerankerState] = []
        frozen = not self._settings.learn or (self._folder(tenant) / FROZEN).exists()
        for folder in self._folders(tenant):
            files = StateFiles(folder)
            state = files.read(0)
            found.append(RerankerState(space=folder.name, step=state.step, learned=state.learned, frozen=frozen, kept=tuple(files.kept())))
        return found

    def freeze(self, tenant: str, *, frozen: bool) -> None:
        """Stop or resume learning, for every process; what was learned stays in use."""
        flag = self._folder(tenant) / FROZEN
        if frozen:
            flag.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flag.touch(mode=0o600)
        else:
            flag.unlink(missing_ok=True)

    def roll_back(self, tenant: str, step: int) -> None:
        """Go back to the weights that were kept at a step; what was learned since is gone. Raises NotFound, which names the kept ones.

        Another process that learns must be stopped first, or frozen: it goes on from its own weights.
        """
        chosen = [folder for folder in self._folders(tenant) if step in StateFiles(folder).kept()]
        if not chosen:
            kept = sorted({one for folder in self._folders(tenant) for one in StateFiles(folder).kept()})
            raise NotFound(f"no reranker of {tenant!r} was kept at step {step}; kept: {kept or 'none'}", param="step")
        for folder in chosen:
            if folder in self._open:
                self._open[folder].roll_back(step)
            else:
                StateFiles(folder).roll_back(step)

    def drop_pending(self, tenant: str) -> None:
        """Remove the samples that wait for an update: they hold vectors of what users said."""
        for folder in self._folders(tenant):
            if folder in self._open:
                self._open[folder].drop_pending()
            else:
                StateFiles(folder).drop_pending()

    def forget(self, tenant: str) -> None:
        """Remove all that was learned of a tenant. A process that learns from its requests meanwhile loses its lease, and begins anew."""
        folder = self._folder(tenant)
        with self._lock:
            for path in [path for path in self._open if path.parent == folder]:
                self._open.pop(path).close()
        if folder.exists():
            shutil.rmtree(folder)

    def close(self) -> None:
        """Let other processes learn."""
        for reranker in self._open.values():
            reranker.close()

    def _folder(self, tenant: str) -> Path:
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest(f"{tenant!r} is no tenant: use lower-case letters, digits, '-' and '_'", param="tenant")
        return self._root / tenant

    def _folders(self, tenant: str) -> Sequence[Path]:
        folder = self._folder(tenant)
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _folder_name(space: str) -> str:
    """A name for a folder that tells spaces apart and can still be read."""
    digest = hashlib.sha256(space.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', space)[:40].strip('.-')}-{digest}"
