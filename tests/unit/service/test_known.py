"""Whether an answer is known: it is looked for where it can be, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.memory import Namespace
from recollect.settings import LogSettings
from recollect.trajectory import Trajectory
from server.service import known as known_module
from server.service.ids import new_id
from server.service.known import KnownTrajectories

HERE = Namespace()
HOUR_MS = 3_600_000


def _made_ms_later(id_: str, milliseconds: int) -> str:
    return f"{int(id_[:12], 16) + milliseconds:012x}{id_[12:]}"


def _written_hours_ago(root: Path, hours: int) -> None:
    for file in root.glob("*.jsonl*"):
        then = file.stat().st_mtime - 3_600 * hours
        os.utime(file, (then, then))


async def _log(root: Path, *ids: str, **more: Any) -> None:
    writer = LogWriter(root, LogSettings())
    for id_ in ids:
        trajectory = Trajectory(
            id=id_, tenant="local", namespace=str(HERE), session="s", agent="a", agent_config_hash="", request=[], **more
        )
        await writer.log(LogEvent(event_id=new_id(), trajectory_id=id_, kind="trajectory", body=trajectory.model_dump(mode="json")))
    writer.close()


async def test_files_that_were_last_written_before_it_was_made_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = new_id(), new_id()
    await _log(tmp_path, old, asked={"store": True})
    _written_hours_ago(tmp_path, 2)
    await _log(tmp_path, new, asked={"store": True})
    read: list[str] = []
    lines = known_module._lines  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(known_module, "_lines", lambda segment: read.append(segment.name) or lines(segment))  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType, reportUnknownArgumentType]
    known = KnownTrajectories(tmp_path)
    assert await known.logged(new, HERE) is not None
    assert await known.logged(new_id(), HERE) is None
    assert len(read) == 2
    assert await known.logged(_made_ms_later(old, -3 * HOUR_MS), HERE) is None
    assert len(read) == 4


@pytest.mark.parametrize("id_", [_made_ms_later(new_id(), 2 * HOUR_MS), "e677d21fdbff" + 20 * "0"])
async def test_nothing_was_made_in_the_future(tmp_path: Path, id_: str) -> None:
    await _log(tmp_path, id_)
    known = KnownTrajectories(tmp_path)
    assert await known.tenant_of(id_) is None
    assert await known.logged(id_, HERE) is None


async def test_a_request_without_words_is_not_a_forgotten_one(tmp_path: Path) -> None:
    asked, not_asked = new_id(), new_id()
    await _log(tmp_path, asked, asked={"store": True})
    await _log(tmp_path, not_asked)
    known = KnownTrajectories(tmp_path)
    assert await known.logged(asked, HERE) is not None
    assert await known.logged(not_asked, HERE) is None


async def test_another_tenants_answer_of_this_process_is_not_looked_for(tmp_path: Path) -> None:
    id_ = new_id()
    await _log(tmp_path, id_, asked={"store": True})
    known = KnownTrajectories(tmp_path)
    known.add(id_, "other")
    assert await known.logged(id_, HERE) is None
