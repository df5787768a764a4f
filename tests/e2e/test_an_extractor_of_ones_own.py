"""The example package outside of the tree: installed, named in YAML, it serves a chat request and is trained for one step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai import OpenAI

from recollect.log import read_log
from recollect.trajectory import Trajectory
from tests.e2e.conftest import OtherEngine
from tests.e2e.other_model import WORDS
from trainer.demo.serving import Serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentence_extractor"
CORRECTION = " ".join(WORDS[::2])
"""Half of the words of the vocabulary, so that random answers overlap with it to different degrees."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example installed, on the path of every process that the test starts."""
    target = tmp_path / "site"
    # The environment has no pip of its own; that of the interpreter below it knows the machine's index, as in scripts/setup.
    pip = [str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(target), str(EXAMPLE)], check=True, timeout=300)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]))
    return target


def test_without_the_package_the_error_lists_what_there_is(tmp_path: Path) -> None:
    done = _recollect(tmp_path, "agents", "check", str(EXAMPLE / "agent.yaml"))
    assert done.returncode == 1
    assert "no extractor 'sentences'; known extractors: " in done.stderr


@pytest.mark.engine
def test_it_serves_a_chat_request_and_is_trained_for_one_step(tmp_path: Path, installed: Path, other_engine: OtherEngine) -> None:
    home = tmp_path / "home"
    (home / "agents").mkdir(parents=True)
    shutil.copy(EXAMPLE / "agent.yaml", home / "agents")
    assert _recollect(home, "agents", "check").stdout.strip() == "every agent fits"
    serving = Serving(home, other_engine.serving)
    try:
        serving.start(lambda _: None)
        openai = OpenAI(base_url=f"{serving.url}/v1", api_key="none", timeout=120, max_retries=0)
        assert "sentences" in [model.id for model in openai.models.list().data]
        for session, text in (("one", "The answer is yes."), ("two", "Is the answer yes or no?")):
            answer = openai.chat.completions.create(
                model="sentences", messages=[{"role": "user", "content": text}], max_tokens=24, extra_headers={"x-session-id": session}
            )
            openai.post("/feedback", body={"id": answer.id, "label": "down", "correction": CORRECTION}, cast_to=object)
        served = _served(home)
        assert [one.agent for one in served] == ["sentences"] * 2
        extracted = [step for one in served for step in one.steps if step.role == "extractor"]
        assert len(extracted) == 2
        assert all(step.trainable and step.completion_ids for step in extracted)

        trained = _recollect(
            home,
            *("train", "--json", *other_engine.training, "iterations=1", "tasks_per_iteration=1", "group_size=6", "held_out_tasks=1"),
            *("samples_per_task=1", "rewards.f1=1.0", "min_logged_share=1", "max_answer_tokens=96"),
        )
        assert trained.returncode == 0, trained.stderr[-3000:]
        assert json.loads(trained.stdout)["version"] == 1
    finally:
        serving.stop()


def _served(home: Path) -> list[Trajectory]:
    """What was logged, once the steps after the answers were too: they are an event of their own."""
    deadline = time.monotonic() + 60
    while True:
        found = [logged.trajectory for logged in read_log(home / "trajectories").trajectories]
        done = len(found) == 2 and all(any(step.role == "extractor" for step in one.steps) for one in found)
        if done or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _recollect(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recollect", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
