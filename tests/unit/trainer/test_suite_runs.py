"""`recollect eval SUITE` and `eval compare` from end to end with a scripted engine: resuming, failing, stopping, reports."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from one_version import publish
from typer.testing import CliRunner, Result

from recollect.errors import EngineUnavailable, StorageFull
from recollect.settings import Settings
from server.engines.base import Engine
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer import cli_eval
from trainer.suites import command
from trainer.suites.results import ResultFolder

DATA = Path(__file__).parents[2] / "data"
GOLD = {row["input"]: row["answers"][0] for row in json.loads((DATA / "memfactory_small.json").read_text())}
Run = Callable[..., Result]


def answers(call: ScriptedCall) -> str:
    """The base model knows the first three codes; an adapter knows them all. It reads nothing."""
    asked = call.messages[-1].content if call.messages else call.prompt
    if "Answer:" not in asked:
        return "nothing yet"
    question = next(question for question in GOLD if question in asked)
    known = call.policy.adapter is not None or list(GOLD).index(question) < 3
    return f"\\boxed{{{GOLD[question]}}}" if known else "I do not know."


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(answer=answers)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "codes.yaml"
    file.write_text(
        f"sets: [{{name: codes, source: prepared, options: {{file: {DATA / 'memfactory_small.json'}}}}}]\n"
        "repeats: 2\nmetrics: {paper: boxed, ruler: contains_any}\n"
    )
    return file


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> Run:
    @asynccontextmanager
    async def opened(settings: Settings, url: str | None) -> AsyncGenerator[Engine]:
        yield engine

    monkeypatch.setattr(command, "opened_engine", opened)
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "home"))

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(cli_eval.app, [str(argument) for argument in arguments])

    return invoke


def arguments(suite: Path, out: Path, *more: object) -> list[object]:
    return [suite, "embedder.kind=hash", "--out", out, "--concurrency", 1, *more]


def all_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The cells of all tasks, by contender."""
    return {f"{cell['agent']}/{cell['policy']}": cell for cell in summary["cells"] if cell["group"] == "all"}


def test_every_task_is_run_as_often_as_asked_and_scored_by_every_column(run: Run, suite: Path, tmp_path: Path) -> None:
    done = run(*arguments(suite, tmp_path / "out", "--json"))
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["num_runs"], summary["num_total"]) == (12, 12)
    found = all_of(summary)["own/base"]
    assert found["scores"]["paper"]["mean"] == found["scores"]["ruler"]["mean"] == 0.5
    assert (found["num_tasks"], found["num_failed"], found["num_unscored"]) == (6, 0, 0)
    assert found["prompt_tokens"] > 0
    assert {cell["group"] for cell in summary["cells"]} == {"all", "documents: 50", "documents: 100"}


def test_repeats_have_seeds_of_their_own_that_all_contenders_share(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    assert run(*arguments(suite, tmp_path / "out", "--baseline", "no-memory")).exit_code == 0
    seeds = [call.sampling.seed or 0 for call in engine.calls]
    assert 0 not in seeds
    assert len(set(seeds)) == 12
    plain = [call.sampling.seed or 0 for call in engine.calls if call.messages]
    assert sorted(plain) == sorted(set(seeds))


def test_a_second_run_makes_only_what_failed(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    engine.trouble.fail, engine.trouble.failures = EngineUnavailable("not now"), 5
    first = run(*arguments(suite, tmp_path / "out", "--json", "--agent", "no-memory"))
    assert first.exit_code == 0, first.output
    cell = all_of(json.loads(first.stdout))["no-memory/base"]
    assert (cell["num_runs"], cell["num_failed"]) == (12, 5)
    before = len(engine.calls)
    second = json.loads(run(*arguments(suite, tmp_path / "out", "--json", "--agent", "no-memory")).stdout)
    assert len(engine.calls) - before == 5
    cell = all_of(second)["no-memory/base"]
    assert (cell["num_runs"], cell["num_failed"]) == (12, 0)
    assert cell["scores"]["paper"]["mean"] == 0.5


def test_a_failed_engine_is_no_zero(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    engine.trouble.fail, engine.trouble.failures = EngineUnavailable("not now"), 6
    summary = json.loads(run(*arguments(suite, tmp_path / "out", "--json", "--agent", "no-memory")).stdout)
    # Six of twelve runs failed: each task's first. The second ones score as if nothing had been.
    cell = all_of(summary)["no-memory/base"]
    assert (cell["num_failed"], cell["scores"]["paper"]["mean"]) == (6, 0.5)


def test_where_every_run_failed_the_command_fails_and_says_why(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    engine.trouble.fail = EngineUnavailable("the card is on fire")
    done = run(*arguments(suite, tmp_path / "out"))
    assert done.exit_code == 1
    assert "the card is on fire" in done.stderr.replace("\n", " ")
    assert "12 failed" in done.stderr.replace("\n", " ")


def test_stopping_keeps_what_was_done_and_the_next_run_goes_on(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    def stopping(call: ScriptedCall) -> str:
        if len(engine.calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return answers(call)

    engine.answer = stopping
    stopped = run(*arguments(suite, tmp_path / "out", "--agent", "no-memory"))
    assert stopped.exit_code == 130
    kept = len(ResultFolder(tmp_path / "out").results())
    assert 4 <= kept < 12
    engine.answer, before = answers, len(engine.calls)
    done = run(*arguments(suite, tmp_path / "out", "--agent", "no-memory", "--json"))
    assert len(engine.calls) - before == 12 - kept
    assert json.loads(done.stdout)["num_runs"] == 12


def test_a_finished_evaluation_is_reported_again_without_an_engine(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    first = run(*arguments(suite, tmp_path / "out", "--json"))
    calls = len(engine.calls)
    assert json.loads(run(*arguments(suite, tmp_path / "out", "--json")).stdout) == json.loads(first.stdout)
    assert len(engine.calls) == calls


def test_a_line_that_was_cut_off_is_run_again(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    run(*arguments(suite, tmp_path / "out", "--agent", "no-memory"))
    file = tmp_path / "out" / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    before = len(engine.calls)
    done = run(*arguments(suite, tmp_path / "out", "--agent", "no-memory", "--json"))
    assert len(engine.calls) - before == 1
    assert json.loads(done.stdout)["num_runs"] == 12


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--repeats", 3], "suite.repeats"),
        (["agents.retrieve=3"], "agents.retrieve"),
        (["--limit", 2], "tasks"),
        (["--agent", "no-memory"], "contenders"),
    ],
)
def test_a_changed_configuration_is_an_error_that_names_what_changed(
    run: Run, suite: Path, tmp_path: Path, changed: list[object], named: str
) -> None:
    run(*arguments(suite, tmp_path / "out"))
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    done = run(*arguments(suite, tmp_path / "out", *changed))
    assert done.exit_code == 1
    assert named in str(done.exception)
    assert "give another --out" in str(done.exception)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before


def test_without_out_each_configuration_has_a_folder_of_its_own(run: Run, suite: Path, tmp_path: Path) -> None:
    for repeats in (1, 2, 1):
        assert run(suite, "embedder.kind=hash", "--repeats", repeats).exit_code == 0
    assert len(list((tmp_path / "home" / "evals").iterdir())) == 2


def test_a_store_that_fails_ends_the_evaluation(run: Run, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StorageFull("no space left")

    monkeypatch.setattr("memory_store.store.LanceMemoryStore.fork", full)
    done = run(*arguments(suite, tmp_path / "out"))
    assert isinstance(done.exception, StorageFull)
    assert not ResultFolder(tmp_path / "out").results()


def test_a_trained_policy_is_compared_with_the_base_on_the_same_tasks(
    run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine
) -> None:
    publish(tmp_path / "home")
    done = run(*arguments(suite, tmp_path / "out", "--json", "--policy", "base", "--policy", "current"))
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert set(all_of(summary)) == {"own/base", "own/memory@v1"}
    change = summary["comparisons"][0]["changes"]["paper"]
    assert (change["before"], change["after"], change["difference"]["mean"]) == (0.5, 1.0, 0.5)
    assert change["difference"]["low"] > 0
    names = {call.policy.name for call in engine.calls}
    assert all(re.fullmatch(r"scripted|memory@runeval[0-9a-f]{8}\.1", name) for name in names)
    assert engine.adapters == {}, "what was loaded for the evaluation is unloaded"


def test_an_unknown_version_is_told_before_anything_runs(run: Run, suite: Path, tmp_path: Path, engine: ScriptedEngine) -> None:
    done = run(*arguments(suite, tmp_path / "out", "--policy", "memory@v7"))
    assert "no version 7" in str(done.exception)
    assert not engine.calls
    assert not (tmp_path / "out").exists()


def test_reports_hold_the_figures_in_markdown_and_in_one_html_file(run: Run, suite: Path, tmp_path: Path) -> None:
    publish(tmp_path / "home")
    out = tmp_path / "out"
    shown = run(*arguments(suite, out, "--policy", "base", "--policy", "memory@v1", "--baseline", "no-memory"))
    assert shown.exit_code == 0, shown.output
    markdown, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    gained = "0.500 → 1.000: +0.500", "+100.0 %"
    for text in (shown.stdout, markdown, page):
        for said in ("own/memory@v1", "no-memory/base", "documents: 100", "1.000 (1.000 to 1.000)", *gained):
            assert said in text, said
    assert markdown.count("| all | own/base | 0.500") == 1
    assert page.count("<svg") == 2
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(svg)
    assert not re.search(r"<script|<link|<img|src=|@import", page), "the page needs no other file"
    assert json.loads((out / "report.json").read_text())["num_runs"] == 36


def test_names_from_files_are_escaped_in_the_page(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "codes.yaml"
    source = f"source: prepared, options: {{file: {DATA / 'memfactory_small.json'}}}"
    file.write_text(f"about: <b>&\nsets: [{{name: one, {source}, labels: {{type: '<script>'}}}}]\n")
    assert run(*arguments(file, tmp_path / "out", "--limit", 1)).exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_two_evaluations_are_compared_by_task(run: Run, suite: Path, tmp_path: Path) -> None:
    publish(tmp_path / "home")
    run(*arguments(suite, tmp_path / "a", "--policy", "base"))
    run(*arguments(suite, tmp_path / "b", "--policy", "base", "--policy", "memory@v1"))
    found = json.loads(run("compare", tmp_path / "a", f"{tmp_path / 'b'}#own/memory@v1", "--json").stdout)
    assert {one["group"] for one in found} == {"all", "documents: 50", "documents: 100"}
    assert all(one["before"] == "a#own/base" and one["after"] == "b#own/memory@v1" for one in found)
    whole = next(one["changes"] for one in found if one["group"] == "all")
    assert whole["paper"]["difference"]["mean"] == 0.5
    assert set(whole) == {"paper", "ruler", "tokens", "seconds"}
    same = json.loads(run("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert same[0]["changes"]["paper"]["difference"]["mean"] == 0.0
    assert "a#own/base, b#own/base" in run("compare", tmp_path / "a", tmp_path / "b").stdout


def test_comparing_what_is_not_there_says_so(run: Run, suite: Path, tmp_path: Path) -> None:
    run(*arguments(suite, tmp_path / "a"))
    assert "holds no evaluation" in str(run("compare", tmp_path / "a", tmp_path / "nowhere").exception)
    assert "it has: own/base" in str(run("compare", tmp_path / "a", f"{tmp_path / 'a'}#reader/base").exception)


def test_retrieval_is_still_measured_by_its_own_command(run: Run) -> None:
    done = run("retrieval", DATA / "locomo_small.json", "--json", "embedder.kind=hash")
    assert done.exit_code == 0
    assert json.loads(done.stdout)
