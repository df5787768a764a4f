"""Runs that will never go on: what they had loaded is unloaded, what they took of the log is new again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from recollect.errors import Conflict, NotFound
from recollect.log_cursor import give_back, taken_by
from recollect.log_redact import redacted_ids
from recollect.policy import Policy
from recollect.retired import hashes_of
from recollect.run_records import FORGOTTEN, forget_in_run
from server.engines.base import Engine
from trainer.run_folder import RunFolder


async def abandon(home: Path, folder: RunFolder, engine: Engine) -> None:
    """Give back what a run took. Its rollouts and figures stay. Raises Conflict for a run that has finished, EngineError."""
    if folder.finished:
        raise Conflict(f"run {folder.id} has finished: it learned from what it took", param="run")
    await _unload(folder, engine)
    await asyncio.to_thread(folder.drop_checkpoints)
    with suppress(NotFound):
        await asyncio.to_thread(give_back, home / "trajectories", folder.id)


def blank_forgotten(home: Path) -> None:
    """Blank what runs recorded that died after something they learned from was forgotten, and before they blanked it themselves."""
    if marked := _marked(home):
        hashes = hashes_of(redacted_ids(home / "trajectories"))
        for folder in marked:
            forget_in_run(home, folder.path, hashes)


async def unload_forgotten(home: Path, engine: Engine) -> None:
    """Let go of the candidates of runs that died and cannot go on because of what was forgotten. Raises EngineError."""
    for folder in await asyncio.to_thread(_marked, home):
        await _unload(folder, engine)


def _marked(home: Path) -> list[RunFolder]:
    folders = [RunFolder(path) for path in sorted((home / "runs").glob("*/"))]
    dead = [folder for folder in folders if (folder.path / FORGOTTEN).is_file() and not folder.finished]
    return [folder for folder in dead if folder.candidates.is_dir() or taken_by(home / "trajectories", folder.id) is not None]


async def _unload(folder: RunFolder, engine: Engine) -> None:
    """The engine dies if the files of an adapter that it has loaded vanish: they go after it has let go of them."""
    for candidate in sorted(folder.candidates.glob("*@*")):
        await engine.unload_adapter(Policy.parse(candidate.name, base=engine.base))
    await asyncio.to_thread(folder.drop_candidates)
