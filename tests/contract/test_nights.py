"""Nights on a home: each exit code for its reason, one sentence each, and a run that died is gone on with."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from recollect.errors import EngineUnavailable
from recollect.quarantine import quarantined
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.train_lock import exclusive
from server.engines.scripted import Answered, ScriptedCall, ScriptedEngine, Trouble
from tests.contract.test_gated_runs import GATED, spoilt
from tests.contract.test_training_loop import learning, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer import nightly as module
from trainer import running_engine as engines
from trainer.cli_nightly import nightly as nightly_command
from trainer.config import TrainConfig
from trainer.nightly import FAILED, NOTHING, PUBLISHED, REFUSED, Night, estimate, nightly
from trainer.nightly_settings import NightlySettings
from trainer.progress import Listener, silent
from trainer.recorded import recorded_rollouts
from trainer.resuming import run_folders, unfinished_ids

CONFIG = TrainConfig.model_validate(GATED | {"gate": {"regression_tasks": 4, "min_own_tasks": 3}})
ANY_TIME = NightlySettings(min_tasks=2, nice=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@contextmanager
def engine(scripted: ScriptedEngine) -> Generator[None]:
    """Nights meet this engine in place of a running server's: the expensive seam."""
    patch = pytest.MonkeyPatch()
    for place in (module, engines):
        patch.setattr(place, "running_engine", lambda *_: scripted)
    try:
        yield
    finally:
        patch.undo()


def night(settings: Settings, scripted: ScriptedEngine, when: NightlySettings = ANY_TIME, config: TrainConfig = CONFIG) -> Night:
    def listening() -> Any:
        listen: Listener = silent
        return nullcontext(listen)

    with engine(scripted):
        return nightly(config, settings, when, listening=listening)


def test_a_night_publishes_and_the_next_has_nothing_to_do_until_something_is_new(base: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, base)
    assert night(chosen, learning())[:2] == (
        NOTHING,
        "nothing to do: the trajectory log is empty; use the agents and send feedback on their answers first, "
        "or train on generated tasks alone with generated_only=true",
    )
    write_log(tmp_path, 16)
    first = night(chosen, learning())
    assert first.code == PUBLISHED
    assert first.said.startswith("published memory@v1: held-out 0.")
    assert "tasks from the log" in first.said
    again = night(chosen, learning())
    assert (again.code, "is new since the last run" in again.said) == (NOTHING, True)
    write_log(tmp_path, 1, first=16)
    few = night(chosen, learning())
    assert few.code == NOTHING
    assert "2 are needed (min_tasks)" in few.said


def test_what_is_not_good_enough_lies_in_quarantine_and_the_old_version_stays(base: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, base)
    write_log(tmp_path, 16)
    assert night(chosen, learning()).code == PUBLISHED
    write_log(tmp_path, 16, first=16)
    refused = night(chosen, spoilt())
    assert refused.code == REFUSED
    assert refused.said.startswith("quarantined, memory is as it was: not better for certain")
    registry = Registry(tmp_path / "adapters")
    assert (registry.current("memory"), len(quarantined(registry, "memory"))) == (1, 1)


def test_a_night_whose_engine_dies_fails_with_one_sentence_and_the_next_goes_on_with_its_run(base: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, base)
    write_log(tmp_path, 16)
    dying = learning()
    answer = dying.answer

    def dies(call: ScriptedCall) -> Answered:
        if call.policy.adapter:
            raise EngineUnavailable("the engine is gone")
        return answer(call)

    dying.answer = dies
    failed = night(chosen, dying)
    assert failed.code == FAILED
    assert "the engine is gone" in failed.said
    [run] = unfinished_ids(tmp_path)
    done = night(chosen, learning())
    assert (done.code, done.resumed) == (PUBLISHED, run)
    assert [folder.id for folder in run_folders(tmp_path)] == [run]


def test_a_run_that_cannot_go_on_because_settings_changed_is_given_back_and_its_events_learned_from(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    dead = ScriptedEngine(trouble=Trouble(fail=EngineUnavailable("gone")))
    assert night(settings(tmp_path, base), dead).code == FAILED
    [run] = unfinished_ids(tmp_path)
    before = settings(tmp_path, base)
    changed = before.agents.model_copy(update={"section_tokens": 77})
    done = night(before.model_copy(update={"agents": changed}), learning())
    assert (done.code, done.resumed) == (PUBLISHED, None)
    assert unfinished_ids(tmp_path) == []
    assert run in [folder.id for folder in run_folders(tmp_path)]


def test_two_nights_at_once_and_a_night_outside_its_window_are_nothing_to_do(base: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, base)
    write_log(tmp_path, 16)
    with exclusive(tmp_path):
        busy = night(chosen, learning())
    assert (busy.code, "a trainer runs on home" in busy.said) == (NOTHING, True)
    closed = NightlySettings(window="00:00-00:01", min_tasks=2, nice=0)
    outside = night(chosen, learning(), closed) if closed.seconds_left(module.datetime.now()) == 0 else None
    assert outside is None or outside[:2] == (NOTHING, "nothing to do: it is outside of the window 00:00-00:01")


def test_a_night_without_a_server_fails_by_what_to_do(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    failed = nightly(CONFIG, settings(tmp_path, base), ANY_TIME, listening=lambda: nullcontext(silent))
    assert failed.code == FAILED
    assert "start one (recollect serve) or give --engine-url" in failed.said


def test_a_night_with_little_time_makes_few_iterations_and_is_measured_all_the_same(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    config = CONFIG.model_copy(update={"iterations": 400})
    done = night(settings(tmp_path, base), learning(), NightlySettings(min_tasks=2, nice=0, max_minutes=0.1), config)
    assert done.result is not None
    assert 1 <= len(done.result.iterations) < 400
    assert done.result.after.accuracy is not None


def test_the_command_tells_the_plan_and_a_refusal_by_its_exit_code(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, 16)
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path))
    app = typer.Typer()
    app.command()(nightly_command)
    own = ["embedder.kind=hash", "agents.prompts=compact", f"engine.model={base}", "held_out_logged_share=0.5"]
    told = CliRunner().invoke(app, ["--dry-run", "--json", "--min-tasks", "2", *own])
    plan = json.loads(told.stdout)
    assert plan["new_tasks"] >= 2
    assert (plan["minutes"], plan["earlier_runs"], plan["resumes"]) == (None, 0, None)
    none = CliRunner().invoke(app, ["--dry-run", "--min-tasks", "100", *own])
    assert (none.exit_code, none.stdout.startswith("nothing to do:")) == (NOTHING, True)
    alone = CliRunner().invoke(app, ["--min-tasks", "2", "--nice", "0", *own])
    assert (alone.exit_code, alone.stdout.count("\n")) == (FAILED, 1)
    assert alone.stdout.startswith("recollect nightly: failed: no server with an engine runs")


def test_the_cost_is_estimated_by_what_earlier_runs_took() -> None:
    config = TrainConfig.model_validate({"iterations": 10, "tasks_per_iteration": 4, "group_size": 4, "held_out_tasks": 8})
    found = estimate(config, [{"seconds": 120.0, "rollouts": 100, "answers": 20}, {"seconds": 60.0, "rollouts": 100, "answers": 20}])
    assert found == {"rollouts": 160, "held_out_answers": 80, "minutes": 3.0, "earlier_runs": 2}


def test_a_night_that_ran_out_of_time_and_died_while_it_measured_is_measured_anew(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    chosen, config = settings(tmp_path, base), CONFIG.model_copy(update={"iterations": 60})
    dying, asked = learning(), 0
    answer = dying.answer

    def dies(call: ScriptedCall) -> Answered:
        nonlocal asked
        asked += call.policy.adapter is not None and call.sampling.seed is not None  # an answer to a held-out task
        if asked > 5:
            raise EngineUnavailable("the engine is gone")
        return answer(call)

    dying.answer = dies
    soon = NightlySettings(min_tasks=2, nice=0, max_minutes=0.01)
    assert night(chosen, dying, soon, config).code == FAILED
    [run] = unfinished_ids(tmp_path)
    early = len(run_folders(tmp_path)[0].written_metrics())
    done = night(chosen, learning())
    assert (done.code, done.resumed) == (PUBLISHED, run)
    assert done.result is not None
    assert early < len(done.result.iterations) == 60
    stages = {one.stage for one in recorded_rollouts(run_folders(tmp_path)[0].rollouts) if one.stage.startswith("after")}
    assert len(stages) <= 2
