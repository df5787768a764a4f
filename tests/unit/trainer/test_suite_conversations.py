"""A suite over a conversation: it is told once for all its questions, and what was remembered and found is reported."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from recollect.errors import EngineUnavailable
from recollect.settings import Settings
from server.engines.base import Engine
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer import cli_eval
from trainer.suites import command
from trainer.suites.results import ResultFolder

DATA = Path(__file__).parents[2] / "data"
CONVERSATION = json.loads((DATA / "locomo_small.json").read_text())[0]
TURNS = [turn for name, turns in CONVERSATION["conversation"].items() if isinstance(turns, list) for turn in turns]
DECIDE = "Operations:"
"""The cue at the end of the updater's prompt."""
Run = Callable[..., Result]


def decides(call: ScriptedCall) -> str:
    """Adds what the updater is shown; answers a question by what stands in front of it."""
    asked = call.messages[-1].content
    return "ADD something was said" if asked.endswith(DECIDE) else f"I read: {asked[:40]}"


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(answer=decides, window=None)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> Run:
    @asynccontextmanager
    async def opened(settings: Settings, url: str | None) -> AsyncGenerator[Engine]:
        yield engine

    monkeypatch.setattr(command, "opened_engine", opened)
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "home"))

    def invoke(form: str, *more: object) -> Result:
        file = tmp_path / f"{form}.yaml"
        options = f"{{file: locomo_small.json, form: {form}, categories: ['1', '2', '3', '4']}}"
        file.write_text(
            f"sets: [{{name: small, source: locomo, options: {options}}}]\n"
            "repeats: 2\nmetrics: {score: task, evidence: evidence_recall}\nscoring: {k: 10}\nsettings: {agents: {retrieve: 10}}\n"
        )
        arguments = [file, "embedder.kind=hash", "--data", DATA, "--out", tmp_path / "out", "--json", *more]
        return CliRunner().invoke(cli_eval.app, [str(argument) for argument in arguments])

    return invoke


def summary_of(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_conversation_is_told_once_a_contender_and_repeat(run: Run, tmp_path: Path, engine: ScriptedEngine) -> None:
    summary = summary_of(run("told", "--baseline", "rag-text", "agents.writing=operations"))
    told = {(one["agent"], one["policy"]): one for one in summary["tellings"]}
    num_questions = summary["cells"][0]["num_tasks"]
    own, text = told["own", "base"], told["rag-text", "base"]
    assert num_questions > 1
    assert own["num_conversations"] == text["num_conversations"] == 2, "one for each repeat"
    assert own["turns"] == text["turns"] == 2 * len(TURNS)
    assert own["calls"] == 2 * len(TURNS), "the updater is asked of every turn, once"
    assert sum(call.messages[-1].content.endswith(DECIDE) for call in engine.calls) == own["calls"]
    assert text["calls"] == 0
    assert text["memories"] == text["operations"]["add"] == 2 * len(TURNS)
    assert own["operations"]["add"] == 2, "the same words are added once"
    assert own["operations"]["not applied"] == 2 * (len(TURNS) - 1)
    results = ResultFolder(tmp_path / "out").results()
    assert all(result.calls == 1 for result in results), "what telling took is not counted with the questions"


@pytest.mark.parametrize("form", ["told", "stored"])
def test_evidence_is_found_among_what_was_shown(run: Run, form: str) -> None:
    summary = summary_of(run(form, "--baseline", "no-memory"))
    cells = {cell["agent"]: cell for cell in summary["cells"] if cell["group"] == "all"}
    assert 0.5 < cells["own"]["scores"]["evidence"]["mean"] <= 1.0
    assert cells["no-memory"]["scores"]["evidence"]["mean"] == 0.0
    assert cells["own"]["num_unscored"] == 2, "one of the questions names no evidence, twice"


def test_questions_do_not_see_each_other(run: Run, engine: ScriptedEngine) -> None:
    summary_of(run("told"))
    questions = [qa["question"] for qa in CONVERSATION["qa"] if qa["category"] != 5]
    asked = [call.messages[-1].content for call in engine.calls]
    assert len(asked) == 2 * len(questions)
    assert all(sum(question in text for question in questions) == 1 for text in asked)


def test_a_conversation_that_cannot_be_told_fails_its_questions_and_is_told_again(run: Run, engine: ScriptedEngine) -> None:
    engine.trouble.fail, engine.trouble.failures = EngineUnavailable("not now"), 1
    first = summary_of(run("told", "agents.writing=operations"))
    cell = next(cell for cell in first["cells"] if cell["group"] == "all")
    assert cell["num_failed"] == cell["num_tasks"], "of one of the two repeats"
    assert first["tellings"][0]["num_failed"] == 1
    second = summary_of(run("told", "agents.writing=operations"))
    assert next(cell for cell in second["cells"] if cell["group"] == "all")["num_failed"] == 0
    assert second["tellings"][0]["num_failed"] == 0
    assert second["tellings"][0]["num_conversations"] == 2
