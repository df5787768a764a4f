"""Runs that died at awkward moments: none blocks forgetting, training or the nights that follow."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from recollect.log_cursor import Window, finish, take, taken_by
from recollect.run_records import FORGOTTEN, forget_in_run, forget_in_runs
from recollect.settings_read import load
from server.engines.scripted import ScriptedEngine
from tests.unit.trainer.test_split import said
from trainer.abandoning import abandon, settle_finished
from trainer.config import TrainConfig
from trainer.environments.from_log.tasks import tasks_from_log
from trainer.recorded import Recorded, recorded_rollouts
from trainer.resuming import unfinished_ids, why_not
from trainer.run_folder import RunFolder, TasksChanged
from trainer.task_pool import TaskPool

HASHES = frozenset({sha256(b"t0").hexdigest()})


def begun(home: Path, *, generated_only: bool = False) -> RunFolder:
    """A run on one logged task, of which nothing else is known."""
    folder = RunFolder.create(home)
    pool = TaskPool(tuple(tasks_from_log([said(0)], tenant="local").tasks), (), (), {})
    folder.save_tasks(pool)
    config = TrainConfig(generated_only=generated_only)
    folder.save_config(config, load(None, [], {}), pool="local", parent=None, replaces=None, window=512)
    take(home / "trajectories", folder.id, Window(until={"s": 1}, fresh={"s": ((0, 1),)}), pool="local", policy="memory")
    return folder


def test_a_run_without_a_rollout_of_what_is_forgotten_cannot_go_on_and_holds_nothing(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    assert unfinished_ids(tmp_path) == [folder.id]
    assert forget_in_runs(tmp_path, HASHES, training=True) == [folder.id]
    assert taken_by(tmp_path / "trajectories", folder.id) is not None
    forget_in_runs(tmp_path, HASHES, training=False)
    assert unfinished_ids(tmp_path) == []
    assert taken_by(tmp_path / "trajectories", folder.id) is None


def test_one_that_died_between_its_end_and_its_report_blocks_no_forgetting(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    finish(tmp_path / "trajectories", folder.id)
    assert forget_in_run(tmp_path, folder.path, HASHES) is False
    assert (folder.path / FORGOTTEN).is_file()


def test_one_that_died_behind_its_report_lets_go_of_the_log(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.report.write_text("{}")
    settle_finished(tmp_path)
    taken = taken_by(tmp_path / "trajectories", folder.id)
    assert taken is not None
    assert taken.finished


async def test_forgetting_deletes_what_a_replay_and_a_broken_checkpoint_left(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    recorded = Recorded(folder.rollouts, lambda _: True)
    await recorded.stage("0001").add(0, 0, said(0).trajectory.model_copy(update={"id": "rollout-1", "session": "log-t0"}))
    recorded.close()
    (folder.path / "replayed").mkdir()
    for name in ("replayed/adapter_model.safetensors", ".checkpoint-0001.pt.tmp", "checkpoint-0001.pt"):
        (folder.path / name).write_bytes(b"weights")
    assert forget_in_run(tmp_path, folder.path, HASHES)
    assert [path for path in folder.path.rglob("*") if path.is_file() and path.read_bytes() == b"weights"] == []
    assert [one.forgotten for one in recorded_rollouts(folder.rollouts)] == [True]


@pytest.mark.parametrize("generated_only", [False, True])
async def test_what_was_given_back_cannot_go_on(tmp_path: Path, generated_only: bool) -> None:
    folder = begun(tmp_path, generated_only=generated_only)
    engine = ScriptedEngine()
    for name in ("memory@runab.2", ".memory@runab.3.12.tmp"):
        (folder.candidates / name).mkdir(parents=True)
    engine.adapters["memory@runab.2"] = "loaded"
    await abandon(tmp_path, folder, engine)
    assert (engine.adapters, folder.candidates.exists()) == ({}, False)
    assert why_not(tmp_path, folder) == "what it took was given back; start a new run"
    await abandon(tmp_path, folder, engine)


def test_a_run_whose_tasks_cannot_be_made_again_is_told_by_what_to_do(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.check_tasks(TaskPool((), (), tuple(tasks_from_log([said(0)], tenant="local").tasks), {}))
    with pytest.raises(TasksChanged, match=f"recollect runs give-back {folder.id}"):
        folder.check_tasks(TaskPool((), (), (), {}))
    assert json.loads((folder.path / "tasks.json").read_text())["logged"][0]["id"] == "log-t0"
