"""The loop is not wired to the seed model: another architecture, tokenizer, window and prompt pack serves, logs, trains, swaps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from recollect.log import read_log
from tests.e2e.conftest import OtherEngine
from tests.e2e.other_model import WINDOW, WORDS
from trainer.demo.serving import Serving

pytestmark = pytest.mark.engine

DOCUMENT = "The memory section of the document says that the answer is yes. " * 40
QUESTION = "Is the answer yes or no?"
CORRECTION = " ".join(WORDS[::2])
"""Half of the words of the vocabulary, so that random answers overlap with it to different degrees."""


def test_another_model_serves_logs_trains_one_update_and_swaps(tmp_path: Path, other_engine: OtherEngine) -> None:
    agents = ["agents.writing=operations", "agents.section_tokens=400", "agents.memory_tokens=24"]
    serving = Serving(tmp_path / "home", [*other_engine.serving, *agents])
    try:
        serving.start(lambda _: None)
        openai = OpenAI(base_url=f"{serving.url}/v1", api_key="none", timeout=120, max_retries=0)
        assert openai.models.list().data
        for number in range(3):
            answer = openai.chat.completions.create(
                model="reader",
                messages=[{"role": "user", "content": f"{number}. {DOCUMENT}"}, {"role": "user", "content": QUESTION}],
                max_tokens=24,
            )
            openai.post("/feedback", body={"id": answer.id, "label": "down", "correction": CORRECTION}, cast_to=object)
        streamed = openai.chat.completions.create(
            model="memory", messages=[{"role": "user", "content": "My dog is Rex."}], stream=True, max_tokens=16, seed=1
        )  # without a seed one answer in a hundred ends with its first token
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)

        logged = read_log(tmp_path / "home" / "trajectories").trajectories
        assert [one.trajectory.agent for one in logged] == ["reader"] * 3 + ["memory"]
        reading = logged[0].trajectory
        assert len(reading.steps) >= 3
        assert all(step.trainable and step.policy and step.policy.base == "model" for step in reading.steps)

        report = _train(tmp_path / "home", [*other_engine.training, *agents])
        assert report["version"] == 1
        assert _served(serving.url, "memory@v1")
        after = openai.chat.completions.create(
            model="reader",
            messages=[{"role": "user", "content": DOCUMENT}, {"role": "user", "content": QUESTION}],
            max_tokens=8,
        )
        assert after.model_extra is not None
        assert set(after.model_extra["recollect"]["policies"].values()) == {"memory@v1"}
        with httpx.Client(base_url=serving.engine_url) as http:
            assert http.get("/v1/models").json()["data"][0]["max_model_len"] == WINDOW
    finally:
        serving.stop()


def _train(home: Path, settings: list[str]) -> dict[str, object]:
    overrides = [
        "iterations=1",
        "tasks_per_iteration=3",
        "group_size=6",
        "held_out_tasks=2",
        "samples_per_task=1",
        "rewards.f1=1.0",
        "max_answer_tokens=160",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "recollect", "--home", str(home), "train", "--json", *settings, "min_logged_share=1", *overrides],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _served(url: str, name: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        states = httpx.get(f"{url}/v1/admin/adapters").json()["data"]
        if any(state["serving"] == name for state in states):
            return True
        time.sleep(0.2)
    return False
