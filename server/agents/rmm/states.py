"""A tenant's reranker on disk: the weights, the samples that wait for an update, and earlier weights that can be gone back to.

Every file is written aside and renamed into its place. The samples name the step that they follow: those of an older step were
learned from before the process ended, and are passed over. Blocking.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recollect.errors import ConfigurationError, NotFound
from server.agents.rmm.scoring import Sample, Weights

CURRENT = "state.npz"
PENDING = "pending.npz"
_KEPT = re.compile(r"step-(\d{9})\.npz")


@dataclass(frozen=True, slots=True)
class State:
    """The weights after `step` updates, and the samples of the next one. `learned` counts all samples."""

    weights: Weights
    step: int = 0
    learned: int = 0
    pending: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The files of one tenant and one space of vectors."""

    folder: Path

    def read(self, dimension: int) -> State:
        """The last saved state; the identity where none was. Raises ConfigurationError for a file that cannot be read."""
        found = _read(self.folder / CURRENT)
        if found is None:
            state = State(Weights.identity(dimension))
        else:
            weights = Weights(found["query"], found["memory"])
            state = State(weights, int(found["step"]), int(found["learned"]))
        waiting = _read(self.folder / PENDING)
        if waiting is None or int(waiting["step"]) != state.step or int(waiting["learned"]) < state.learned:
            return state
        pending = tuple(_sample(waiting, number) for number in range(int(waiting["count"])))
        return State(state.weights, state.step, int(waiting["learned"]), pending)

    def write_weights(self, state: State) -> None:
        """Save the weights of a state that has no pending samples. Raises OSError."""
        _write(self.folder / CURRENT, _arrays(state))

    def write_pending(self, state: State) -> None:
        """Save the pending samples. Raises OSError."""
        arrays: dict[str, Any] = {"step": state.step, "learned": state.learned, "count": len(state.pending)}
        for number, sample in enumerate(state.pending):
            for name in Sample.__slots__:
                arrays[f"{name}_{number}"] = getattr(sample, name)
        _write(self.folder / PENDING, arrays)

    def keep(self, state: State, count: int) -> None:
        """Keep the weights of a state to go back to, and of all that are kept the latest `count`."""
        _write(self.folder / f"step-{state.step:09d}.npz", _arrays(state))
        for step in self.kept()[:-count]:
            self._path(step).unlink(missing_ok=True)

    def kept(self) -> Sequence[int]:
        """The steps that can be gone back to, ascending."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted(int(match[1]) for match in map(_KEPT.fullmatch, names) if match)

    def roll_back(self, step: int) -> State:
        """Make a kept state the current one; later ones are removed. Raises NotFound for a step that is not kept."""
        found = _read(self._path(step))
        if found is None:
            kept = ", ".join(map(str, self.kept())) or "none"
            raise NotFound(f"no state of the reranker was kept at step {step}; kept: {kept}", param="step")
        state = State(Weights(found["query"], found["memory"]), step, int(found["learned"]))
        for later in self.kept():
            if later > step:
                self._path(later).unlink(missing_ok=True)
        (self.folder / PENDING).unlink(missing_ok=True)
        self.write_weights(state)
        return state

    def drop_pending(self) -> None:
        """Remove the samples that wait: they hold vectors of what users said."""
        (self.folder / PENDING).unlink(missing_ok=True)

    def stamp(self) -> int:
        """Changes whenever the weights were saved; 0 before the first time."""
        try:
            return os.stat(self.folder / CURRENT).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.npz"


def _arrays(state: State) -> dict[str, Any]:
    weights = state.weights
    return {"query": weights.query, "memory": weights.memory, "step": state.step, "learned": state.learned}


def _sample(arrays: Mapping[str, Any], number: int) -> Sample:
    return Sample(**{name: arrays[f"{name}_{number}"] for name in Sample.__slots__})


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        np.savez(file, **arrays)
    aside.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as exc:
        raise ConfigurationError(
            f"the reranker's {path} is damaged; remove it, or roll back to a step that was kept beside it", param="agents.rmm"
        ) from exc
