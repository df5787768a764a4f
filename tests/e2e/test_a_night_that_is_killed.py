"""`recollect nightly` on a real engine, killed at random moments: the next one goes on, and nothing is made, taken or counted twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from recollect.log_cursor import taken_by
from recollect.log_read import read_log
from trainer.demo.serving import Serving
from trainer.demo.story import drawn
from trainer.demo.users import give_feedback, live_all
from trainer.nightly import PUBLISHED, REFUSED
from trainer.recorded import recorded_rollouts
from trainer.resuming import run_folders

KILLS = 10
SETTINGS = ["agents.writing=operations", "embedder.kind=hash"]
NIGHT = [
    *("iterations=8", "tasks_per_iteration=6", "group_size=6", "samples_per_task=1", "held_out_logged_share=0.3"),
    *("gate.regression_tasks=16", "optimisation.threads=1", "--nice", "0", "--min-tasks", "2"),
]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Generator[Serving]:
    """A server on the seed model whose log has answers with feedback."""
    served = Serving(tmp_path_factory.mktemp("home"), SETTINGS)
    served.start(lambda _: None)
    try:
        asyncio.run(_traffic(served.url))
        yield served
    finally:
        served.stop()


async def _traffic(url: str) -> None:
    await give_feedback(url, await live_all(url, drawn(16, 8, "train", name="killed"), "killed", lambda: None))


def _command(home: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recollect", "--home", str(home), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _written(home: Path) -> int:
    files = [*home.glob("runs/*/rollouts/*.jsonl"), *home.glob("runs/*/metrics.jsonl"), *home.glob("runs/*/before.json")]
    return sum(file.stat().st_size for file in files if file.exists())


def _killed(home: Path, rng: random.Random) -> bool:
    """Kill a night some moments after it has gone on; False if it was over before."""
    process, begun = _command(home, "nightly", *SETTINGS, *NIGHT), _written(home)
    while process.poll() is None and _written(home) == begun:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 4))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.full
def test_a_night_killed_ten_times_ends_as_its_own_replay(serving: Serving) -> None:
    home, rng = serving.home, random.Random(os.urandom(4))
    kills = sum(_killed(home, rng) for _ in range(KILLS))
    assert kills > KILLS // 2
    process = _command(home, "nightly", "--json", *SETTINGS, *NIGHT)
    out, errors = process.communicate(timeout=900)
    assert process.returncode in (PUBLISHED, REFUSED, 3), errors

    [folder] = run_folders(home)
    report = json.loads(folder.report.read_text())
    if process.returncode != 3:
        assert json.loads(out)["run"] == folder.id
    counted = Counter((one.stage, one.task, one.sibling) for one in recorded_rollouts(folder.rollouts))
    assert set(counted.values()) == {1}
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 9))
    log = home / "trajectories"
    taken = taken_by(log, folder.id)
    assert taken is not None
    assert taken.finished
    contents = read_log(log)
    feedback = sum(len(item.feedback) for item in contents.trajectories)
    assert taken.window.num_fresh >= len(contents.trajectories) + feedback

    replay = _command(home, "train", "--replay", folder.id, "--json", *SETTINGS)
    told, errors = replay.communicate(timeout=600)
    assert replay.returncode == 0, errors
    rows = json.loads(told)
    assert all(row["same"] for row in rows)
    assert rows[-1]["weights_sha256"] == report["weights_sha256"]
