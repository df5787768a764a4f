"""A whole training run on a tiny model: real log, memory, TRL and registry; only the engine is scripted."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from safetensors.torch import load_file

from recollect.errors import EngineUnavailable
from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.log_cursor import taken_by
from recollect.messages import user
from recollect.registry import CONFIG, WEIGHTS, Registry
from recollect.settings import LogSettings, Settings
from recollect.settings_read import load
from recollect.trajectory import Feedback, Step, Trajectory
from server.engines.scripted import Answered, ScriptedCall, ScriptedEngine, Trouble
from tests.contract.tiny_model import save_tiny_model
from trainer import run_page
from trainer.config import TrainConfig
from trainer.inputs import NothingToDo, read_again, tasks_of_log
from trainer.loop import train
from trainer.progress import Progress
from trainer.result import TrainResult
from trainer.run_plots import PLOTS

SMALL: dict[str, Any] = {
    "iterations": 3,
    "tasks_per_iteration": 4,
    "group_size": 12,  # the base model is right in a quarter of the rollouts: smaller groups are all flat now and then
    "generated_tasks": 8,
    "held_out_tasks": 4,
    "samples_per_task": 2,
    "held_out_logged_share": 0.0,
    "num_sections": 2,
    "optimisation": {"rank": 4, "alpha": 8, "rows_per_batch": 8},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def settings(home: Path, base: Path) -> Settings:
    chosen = [f"home={home}", f"engine.model={base}", "embedder.kind=hash", "agents.prompts=compact", "agents.writing=operations"]
    return load(None, chosen, {})


def learning(seed: int = 1) -> ScriptedEngine:
    """Answers rightly half of the time as the base model, always as a candidate: as if the run had taught it."""
    rng = random.Random(seed)

    def answer(call: ScriptedCall) -> str:
        right = call.policy.adapter is not None or (rng.random() < 0.5 and call.sampling.temperature != 0.0)
        text = call.messages[-1].content if call.messages else call.prompt
        if "Operations:" in text:
            turn = text.partition("Turn: ")[2].partition("\n")[0]
            return f"ADD {turn}" if right else "NOOP"
        if "Answer:" in text:
            return f"\\boxed{{{text.rpartition('Memory: ')[2].partition(chr(10))[0]}}}"
        if "New memory:" in text:
            return "gold" if right else "lead"
        return "gold" if right and "<memory>" in text else "lead"

    return ScriptedEngine(answer=answer)


def logged_turn(number: int, turn: int, text: str, answer: str, steps: Sequence[Step] = ()) -> Trajectory:
    """A turn of the conversation of user `number`."""
    name = f"user/u{number}"
    return Trajectory(
        id=f"t{number}-{turn}",
        tenant="local",
        namespace=name,
        session="s",
        agent="memory",
        agent_config_hash="h",
        request=[user(text)],
        answer=answer,
        memory_seq_before={name: 0},
        steps=list(steps),
    )


def write_log(home: Path, count: int, first: int = 0) -> None:
    """Conversations of two turns, the second one accepted."""
    log = LogWriter(home / "trajectories", LogSettings())
    for number in range(first, first + count):
        for turn, (text, answer) in enumerate((("My metal is gold.", "Noted."), ("What is my metal?", "gold [1]"))):
            trajectory = logged_turn(number, turn, text, answer)
            log.append(
                LogEvent(event_id=trajectory.id, trajectory_id=trajectory.id, kind="trajectory", body=trajectory.model_dump(mode="json"))
            )
        feedback = Feedback(id=f"t{number}-1", label="up").model_dump(mode="json")
        log.append(LogEvent(event_id=f"f{number}", trajectory_id=f"t{number}-1", kind="feedback", body=feedback))
    log.close()


def assert_every_number_is_in_the_json(result: TrainResult) -> None:
    """The page has all plots and needs no other file; each number in its tables is a figure of report.json, which the cell names."""
    page, report = (result.run.path / "report.html").read_text(), json.loads((result.run.path / "report.json").read_text())
    plots = re.findall(r'<figure id="([a-z-]+)">(<svg.*?</svg>)\s*<figcaption>[^<]+', page, re.S)
    assert [name for name, _ in plots] == [name for name, _, _ in PLOTS]
    for _, plot in plots:
        ElementTree.fromstring(plot)
    assert not re.search(r"<script|<link|<img|@import", page)
    tables, examples = page.partition("<h2>Examples</h2>")[::2]
    cells = re.findall(r'<td(?: data-figure="([^"]+)")?>([^<]*)</td>', tables)
    named = [(unescape(name), text) for name, text in cells if name]
    assert len(named) > 20
    for name, text in named:
        assert text.partition(" (")[0] == run_page.number(run_page.resolved(report, name)), name
    assert not [text for name, text in cells if not name and re.search(r"\d\.\d|^\d+$", text)]
    assert examples.count("<tr>") == len(report["examples"]) + 1
    assert run_page.number(report["held_out_after"]) in (result.run.path / "report.md").read_text()


async def test_a_run_learns_from_the_log_and_publishes_what_it_learned(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    engine, told = learning(), list[Progress]()
    held_out = SMALL | {"held_out_logged_share": 0.3, "min_logged_share": 0.5}
    result = await train(TrainConfig.model_validate(held_out), settings(tmp_path, base), engine, listen=told.append)

    assert result.version == 1
    assert result.manifest is not None
    registry = Registry(tmp_path / "adapters")
    assert registry.current("memory") == 1
    assert registry.verify("memory", 1) == result.manifest
    assert result.manifest.parent is None
    assert result.manifest.num_logged_tasks >= result.manifest.num_generated_tasks > 0
    assert all(len(name) == 64 for name in result.manifest.trajectory_ids)
    assert json.loads((registry.path("memory", 1) / CONFIG).read_text())["r"] == 4
    weights = load_file(registry.path("memory", 1) / WEIGHTS)
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)

    lines = [json.loads(line) for line in result.metrics.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert lines[0]["samples"] > 0
    assert lines[0]["version_lag"] == 0
    assert {"clip_low", "kl_sampler", "importance_mean", "groups_flat", "unscored", "reward/exact_match"} <= lines[0].keys()
    assert [p.done for p in told if p.stage == "train"] == [1, 2, 3]
    assert result.figure.is_file()
    assert json.loads((result.run.path / "tasks.json").read_text())["left_out"] == {"no feedback": 6}

    assert_every_number_is_in_the_json(result)

    assert engine.adapters == {}
    assert not result.run.candidates.exists()
    assert list((tmp_path / "trajectories" / "consumed").iterdir())


async def test_the_next_run_goes_on_from_the_current_version(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    config = TrainConfig.model_validate(SMALL | {"publish": "always"})
    first = await train(config, settings(tmp_path, base), learning())
    engine = learning()
    engine.answer = _changing(engine)
    second = await train(config, settings(tmp_path, base), engine)
    assert (first.version, second.version) == (1, 2)
    assert second.manifest is not None
    assert second.manifest.parent == 1
    assert second.before.policy == f"memory@run{second.run.id}.0"


def _changing(engine: ScriptedEngine) -> Any:
    """The same engine, whose first candidate answers as the base model does, so that there is something to learn."""
    answer = engine.answer

    def changed(call: ScriptedCall) -> Answered:
        begun = call.policy.candidate is not None and call.policy.candidate.endswith(".0")
        plain = call.policy.model_copy(update={"adapter": None, "candidate": None})
        return answer(ScriptedCall(call.prompt, call.prompt_ids, plain, call.sampling, call.messages)) if begun else answer(call)

    return changed


async def test_what_learned_nothing_is_refused_as_unchanged_and_leaves_nothing_loaded(base: Path, tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda _: "always this")
    result = await train(TrainConfig.model_validate(SMALL | {"generated_only": True}), settings(tmp_path, base), engine)
    assert (result.version, result.weights_sha256) == (None, None)
    assert "no update was made: of 12 groups" in json.loads(result.run.report.read_text())["refusal"]
    assert engine.adapters == {}
    assert Registry(tmp_path / "adapters").versions("memory") == []


async def test_what_is_certainly_worse_is_kept_out_of_the_registry(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 12)
    engine = learning()
    taught = engine.answer

    def spoilt(call: ScriptedCall) -> Answered:
        return "lead" if call.policy.adapter else taught(call)

    engine.answer = spoilt
    changed = {"held_out_logged_share": 0.5, "held_out_tasks": 1, "samples_per_task": 8, "iterations": 3}
    result = await train(TrainConfig.model_validate(SMALL | changed), settings(tmp_path, base), engine)
    assert result.refusal is not None
    assert "worse on held-out tasks" in result.refusal
    assert (result.version, result.manifest) == (None, None)
    assert Registry(tmp_path / "adapters").versions("memory") == []


async def test_each_run_takes_what_is_new_and_replays_some_of_what_was_before(base: Path, tmp_path: Path) -> None:
    root, engine = tmp_path / "trajectories", learning()
    changed = {"iterations": 1, "publish": "never", "from_log": {"since": "cursor", "replay_share": 0.5}}
    config = TrainConfig.model_validate(SMALL | changed)
    write_log(tmp_path, 4)
    first = await train(config, settings(tmp_path, base), engine)
    assert (first.tasks.log["new_tasks"], first.tasks.log["replayed_tasks"]) == (4, 0)
    with pytest.raises(NothingToDo, match="none of 8 trajectories is new"):
        await train(config, settings(tmp_path, base), engine)

    write_log(tmp_path, 2, first=4)
    second = await train(config, settings(tmp_path, base), engine)
    assert (second.tasks.log["new_tasks"], second.tasks.log["replayed_tasks"]) == (2, 2)
    assert json.loads(second.run.report.read_text())["log"]["new_trajectories"] == 4
    assert json.loads((second.run.path / "tasks.json").read_text())["log"] == second.tasks.log
    taken = [taken_by(root, run.run.id) for run in (first, second)]
    assert [(one.finished, one.window.num_fresh) for one in taken if one] == [(True, 12), (True, 6)]


async def test_a_run_that_died_keeps_what_it_took_for_its_resume(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 4)
    config = TrainConfig.model_validate(SMALL | {"from_log": {"since": "cursor"}})
    with pytest.raises(EngineUnavailable, match="gone"):
        await train(config, settings(tmp_path, base), ScriptedEngine(trouble=Trouble(fail=EngineUnavailable("gone"))))
    [run] = (tmp_path / "runs").iterdir()
    taken = taken_by(tmp_path / "trajectories", run.name)
    assert taken is not None
    assert not taken.finished
    again = tasks_of_log(config, settings(tmp_path, base), read_again(tmp_path, taken))
    assert [task.id for task in again.training] == [one["id"] for one in json.loads((run / "tasks.json").read_text())["logged"]]
    with pytest.raises(NothingToDo):
        await train(config, settings(tmp_path, base), learning())


async def test_what_the_policy_knows_without_memory_is_left_out_where_that_is_asked_for(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 4)
    config = TrainConfig.model_validate(SMALL | {"from_log": {"closed_book": True}})
    with pytest.raises(NothingToDo, match="4 answerable without memory"):
        await train(config, settings(tmp_path, base), ScriptedEngine(answer=lambda _: "gold"))
    changed = SMALL | {"from_log": {"closed_book": True}, "iterations": 1, "publish": "never"}
    kept = await train(TrainConfig.model_validate(changed), settings(tmp_path, base), learning())
    assert len(kept.tasks.logged) == 4


async def test_an_empty_log_is_nothing_to_do(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="log is empty"):
        await train(TrainConfig.model_validate(SMALL), settings(tmp_path, base), learning())
    assert not (tmp_path / "runs").exists()


async def test_an_engine_that_does_not_answer_is_told_before_anything_is_made(base: Path, tmp_path: Path) -> None:
    engine = ScriptedEngine(trouble=Trouble(unhealthy="loading"))
    with pytest.raises(EngineUnavailable, match="loading"):
        await train(TrainConfig.model_validate(SMALL | {"generated_only": True}), settings(tmp_path, base), engine)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("chosen", "figures"),
    [
        ({"use": "step_groups"}, {"credit/steps_alone"}),
        ({"use": "evidence", "anchor": "cited"}, {"credit/steps_alone", "credit/without_evidence"}),
        ({"use": "local", "rerolls": 2}, {"credit/forks", "credit/forks_flat", "credit/forks_alone", "credit/groups_unforked"}),
    ],
    ids=lambda value: value["use"] if isinstance(value, dict) else "",
)
async def test_a_run_learns_by_the_estimator_that_it_names(base: Path, tmp_path: Path, chosen: dict[str, Any], figures: set[str]) -> None:
    own = {"iterations": 1, "generated_only": True, "publish": "always", "credit": chosen, "rewards": {"information_gain": 0.5}}
    result = await train(TrainConfig.model_validate(SMALL | own), settings(tmp_path, base), learning())
    (line,) = result.iterations
    assert line["samples"] > 0
    assert line["groups_flat"] <= line["groups_flat_outcome"] <= line["groups"]
    assert figures <= line.keys()
    assert any(size > 0 for name, size in line.items() if name.startswith("advantage/"))
    if chosen["use"] == "local":
        assert line["credit/forks"] == line["groups"]
        assert line["uncredited_calls"] >= 2 * line["groups"] - 2 * line["groups_flat"]
