"""Promise 4: what a run learned from can be made again, byte for byte, from the disk alone, however often the run was killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from recollect.errors import Conflict
from recollect.log_cursor import taken_by
from recollect.memory import Namespace
from recollect.registry import Registry
from recollect.run_records import FORGOTTEN
from tests.api.conftest import serving
from tests.contract.test_training_loop import settings, write_log
from tests.contract.tiny_model import save_tiny_model
from tests.contract.train_until_killed import CONFIG, undecided
from trainer.batches import Rebuilt
from trainer.config import TrainConfig
from trainer.inputs import NothingToDo
from trainer.loop import train
from trainer.recorded import recorded_rollouts
from trainer.replaying import compared, replayed
from trainer.resuming import run_folders, unfinished, unfinished_ids
from trainer.run_folder import RunFolder

SCALE = int(os.environ.get("RECOLLECT_TEST_SCALE", "1"))
KILLS = min(3 * SCALE, 10)
ROLLOUTS = 4 * 3 * 2 + 4 * 4 * 4
"""Held-out tasks with their siblings, before and after, and those of the iterations."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def _process(home: Path, base: Path) -> subprocess.Popen[str]:
    script = Path(__file__).parent.parent / "contract" / "train_until_killed.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(home), str(base)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _recorded(home: Path) -> int:
    """Lines that a run has written: rollouts of open segments, and figures of iterations."""
    files = [*home.glob("runs/*/rollouts/*.jsonl"), *home.glob("runs/*/metrics.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def _killed_within(process: subprocess.Popen[str], home: Path, lines: int, delay_s: float) -> bool:
    """Kill the process some moments after it has written so many lines; False if it came to its end before."""
    begun = _recorded(home)
    while process.poll() is None and _recorded(home) - begun < lines:
        time.sleep(0.002)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    rng = random.Random(SCALE)
    kills = 0
    while kills < KILLS:
        process = _process(tmp_path, base)
        if not _killed_within(process, tmp_path, rng.randrange(4, 40), rng.uniform(0, 0.2)):
            break
        kills += 1
    assert kills > 0
    if unfinished_ids(tmp_path):
        process = _process(tmp_path, base)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    [folder] = run_folders(tmp_path)
    counted = Counter((one.stage, one.task, one.sibling) for one in recorded_rollouts(folder.rollouts))
    assert set(counted.values()) == {1}
    assert counted.total() == ROLLOUTS
    registry = Registry(tmp_path / "adapters")
    manifest = registry.verify("memory", 1)
    assert registry.versions("memory") == [1]
    assert manifest.run_id == folder.id
    taken = taken_by(tmp_path / "trajectories", folder.id)
    assert taken is not None
    assert (taken.finished, taken.window.num_fresh) == (True, 18)
    assert not folder.candidates.exists()
    assert folder.checkpoint() is None

    elsewhere = tmp_path.with_name("elsewhere")
    shutil.copytree(tmp_path, elsewhere)
    moved, chosen = RunFolder(elsewhere / "runs" / folder.id), settings(elsewhere, base)
    done = list(replayed(moved, chosen))
    assert len(done) == CONFIG["iterations"]
    assert [one.recorded for one, _ in done if one.recorded] == manifest.batches
    assert manifest.batches
    assert all(one.same for one, _ in done)
    assert done[-1][1] == manifest.sha256


async def test_what_was_taken_is_not_taken_again_and_not_skipped(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 3)
    config, chosen = TrainConfig.model_validate(CONFIG | {"iterations": 1}), settings(tmp_path, base)
    await train(config, chosen, undecided())
    with pytest.raises(NothingToDo, match="none of 6 trajectories is new"):
        await train(config, chosen, undecided())
    with pytest.raises(Conflict, match="it is finished"):
        unfinished(tmp_path, run_folders(tmp_path)[-1].id, chosen)


async def test_forgetting_blanks_what_a_run_recorded_and_says_which_batches_it_takes(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    chosen = settings(tmp_path, base)
    result = await train(TrainConfig.model_validate(CONFIG), chosen, undecided())
    assert all(one.same for one in compared(result.run, chosen))
    async with serving(tmp_path, undecided()) as served:
        certificate = await served.service.forgetting.namespace(Namespace(parts=(("user", "u0"),)))
    assert certificate.runs == (result.run.id,)
    assert (result.run.path / FORGOTTEN).is_file()
    left = [one.trajectory for one in recorded_rollouts(result.run.rollouts) if not one.forgotten]
    assert left
    assert not [one for one in left if any("user/u0" in str(step.messages) for step in one.steps)]
    blanked = [one.trajectory for one in recorded_rollouts(result.run.rollouts) if one.forgotten]
    assert blanked
    assert all(not one.answer and all(not step.text and step.completion_ids is None for step in one.steps) for one in blanked)
    found = list(compared(result.run, chosen))
    assert any(one.rebuilt == Rebuilt(one.rebuilt.iteration, None, one.rebuilt.num_forgotten) and not one.same for one in found)


async def test_a_run_that_died_and_of_which_something_was_forgotten_is_given_back(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    process = _process(tmp_path, base)
    assert _killed_within(process, tmp_path, 50, 0)
    [dead] = run_folders(tmp_path)
    async with serving(tmp_path, undecided()) as served:
        certificate = await served.service.forgetting.namespace(Namespace(parts=(("user", "u0"),)))
    assert certificate.runs == (dead.id,)
    assert dead.checkpoint() is None
    chosen = settings(tmp_path, base)
    with pytest.raises(Conflict, match="forgotten; what it took is new again"):
        unfinished(tmp_path, dead.id, chosen)
    assert unfinished_ids(tmp_path) == []

    result = await train(TrainConfig.model_validate(CONFIG), chosen, undecided())
    assert (result.version, result.tasks.log["new_tasks"]) == (1, 1)
    assert not dead.candidates.exists()
    assert taken_by(tmp_path / "trajectories", dead.id) is None
