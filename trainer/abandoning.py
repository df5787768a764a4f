"""Runs that will never go on: what they had loaded is unloaded, what they took of the log is new again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from recollect.errors import Conflict, NotFound
from recollect.learned import hashes_of
from recollect.log_cursor import all_taken, finish, give_back
from recollect.log_redact import redacted_ids
from recollect.policy import Policy
from recollect.run_records import FORGOTTEN, forget_in_run
from server.engines.base import Engine
from trainer.frozen import frozen_policy
from trainer.run_folder import ABANDONED, RunFolder


async def abandon(home: Path, folder: RunFolder, engine: Engine) -> None:
    """Give back what a run took; it cannot go on then. Its rollouts and figures stay. Raises Conflict for a finished one, EngineError."""
    if folder.finished:
        raise Conflict(f"run {folder.id} has finished: it learned from what it took", param="run")
    await _unload(folder, engine)
    await asyncio.to_thread(folder.drop_checkpoints)
    (folder.path / ABANDONED).touch()
    with suppress(NotFound, Conflict):
        await asyncio.to_thread(give_back, home / "trajectories", folder.id)


def blank_forgotten(home: Path) -> None:
    """Blank in runs that are not finished what was forgotten: they may have died before they could do it themselves."""
    if dead := _unfinished(home):
        hashes = hashes_of(redacted_ids(home / "trajectories"))
        for folder in dead if hashes else ():
            forget_in_run(home, folder.path, hashes)


def settle_finished(home: Path) -> None:
    """Let go of what finished runs hold of the log: one may have been killed right behind its report."""
    for taken in all_taken(home / "trajectories"):
        if not taken.finished and RunFolder(home / "runs" / taken.run_id).finished:
            finish(home / "trajectories", taken.run_id)


async def unload_forgotten(home: Path, engine: Engine) -> None:
    """Let go of the candidates of runs that died and cannot go on because of what was forgotten. Raises EngineError."""
    for folder in await asyncio.to_thread(_unfinished, home):
        if (folder.path / FORGOTTEN).is_file() and folder.candidates.is_dir():
            await _unload(folder, engine)


def _unfinished(home: Path) -> list[RunFolder]:
    folders = [RunFolder(path) for path in sorted((home / "runs").glob("*/"))]
    return [folder for folder in folders if not folder.finished]


async def _unload(folder: RunFolder, engine: Engine) -> None:
    """The engine dies if the files of an adapter that it has loaded vanish: they go after it has let go of them."""
    for candidate in sorted(folder.candidates.glob("[!.]*@*")):
        await engine.unload_adapter(Policy.parse(candidate.name, base=engine.base))
    for alias, version in folder.frozen_versions().items():
        if version is not None:
            await engine.unload_adapter(frozen_policy(engine.base, alias, version, folder.id))
    await asyncio.to_thread(folder.drop_candidates)
