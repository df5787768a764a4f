"""The configurations of papers: each parses, tells what it needs without running, and does not run without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from recollect.errors import ConfigurationError
from recollect.settings_read import load
from trainer.cli import train, training_config
from trainer.dry_run import check_needs, dry_run
from trainer.inputs import check_settings
from trainer.task_pool import FromLog, assemble

PAPERS = sorted((Path(__file__).parents[3] / "configs" / "papers").glob("*.yaml"))
WITH_WEIGHTS = [path for path in PAPERS if not path.stem.endswith("-seed")]
DATA = Path(__file__).parents[2] / "data"


def command(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(train)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_there_is_one_for_each_paper() -> None:
    assert {path.stem for path in PAPERS} >= {"memfactory-1.7b", "memfactory-4b", "memagent", "memory-r1", "rmm"}


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_it_parses_and_its_settings_are_settings(path: Path) -> None:
    config = training_config(path, [])
    settings = load(None, [f"{key}={value}" for key, value in config.needs.settings.items()], {})
    check_settings(config, settings)
    assert dry_run(config, settings)["settings"] == []
    assert config.needs.follows


def test_memory_r1_learns_on_the_seed_model_from_tasks_of_its_own_agent() -> None:
    config = training_config(next(path for path in PAPERS if path.stem == "memory-r1-seed"), ["iterations=1"])
    pool = assemble(config, FromLog(), length=len, section_tokens=80)
    assert len(pool.held_out) == 64
    assert {task.agent for task in (*pool.training, *pool.held_out)} == {"memory-r1"}
    assert all(task.conversation and task.gold for task in pool.training)


@pytest.mark.parametrize("path", WITH_WEIGHTS, ids=lambda path: path.stem)
def test_a_dry_run_says_which_weights_and_data_are_missing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "home"))
    done = command("--config", path, "--dry-run", "--json", f"data={tmp_path}")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["weights"][0] in told["missing"][0]
    assert len(told["missing"]) >= 2
    assert told["data"]
    assert told["rollouts"] == told["iterations"] * told["rollouts_per_iteration"]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("path", WITH_WEIGHTS, ids=lambda path: path.stem)
def test_without_them_it_does_not_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "home"))
    done = command("--config", path, f"data={tmp_path}", "--engine-url", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigurationError)
    assert "needs what is not here" in str(done.exception)
    assert "engine.model" in str(done.exception)
    assert not (tmp_path / "home").exists()


def test_the_hyper_parameters_are_memfactorys() -> None:
    small, large = (training_config(path, []) for path in PAPERS if path.stem in ("memfactory-1.7b", "memfactory-4b"))
    for config in (small, large):
        found = config.optimisation
        assert (config.group_size, config.tasks_per_iteration) == (16, 24)
        assert (found.learning_rate, found.beta, found.clip_low, found.clip_high) == (5e-6, 1e-3, 0.2, 0.2)
        assert (config.credit.use, config.credit.scale_by_std) == ("broadcast", True)
        assert config.needs.settings["agents.section_tokens"] == "2500"
    assert (small.max_answer_tokens, large.max_answer_tokens) == (2500, 1500)


def test_the_hyper_parameters_are_memagents() -> None:
    config = training_config(next(path for path in PAPERS if path.stem == "memagent"), [])
    found = config.optimisation
    assert (config.group_size, config.tasks_per_iteration, config.max_answer_tokens) == (16, 128, 1024)
    assert (found.loss, config.credit.scale_by_std, found.beta, found.clip_low, found.clip_high) == ("dapo", False, 1e-3, 0.2, 0.2)
    assert (found.learning_rate, found.warmup_updates, found.temperature) == (1e-6, 20, 1.0)
    assert config.needs.settings == {"agents.section_tokens": "5000", "agents.memory_tokens": "1024", "agents.max_sections": "8"}


def test_the_hyper_parameters_are_memory_r1s() -> None:
    config = training_config(next(path for path in PAPERS if path.stem == "memory-r1"), [])
    assert (config.group_size * config.tasks_per_iteration, config.max_answer_tokens, config.held_out_tasks) == (128, 2048, 81)
    assert (config.optimisation.learning_rate, config.optimisation.temperature, config.credit.scale_by_std) == (1e-6, 1.0, True)
    (source,) = config.tasks
    assert (source.source, source.options["categories"]) == ("locomo", ["1", "2", "3", "4"])
    assert any("152 questions to train on, 81 to validate, 1,307 to test" in data for data in config.needs.data)


def test_a_dry_run_is_told_in_lines(tmp_path: Path) -> None:
    done = command("--config", next(path for path in PAPERS if path.stem == "memagent"), "--dry-run", f"home={tmp_path}")
    for line in ("rollouts_per_iteration: 2048", "weights:\n  Qwen/Qwen2.5-7B-Instruct\n", "  agents.memory_tokens=1024\n"):
        assert line in done.stdout


def test_the_seed_model_needs_nothing() -> None:
    config = training_config(next(path for path in PAPERS if path.stem == "memfactory-seed"), [])
    check_needs(config, load(None, [], {}))
    assert config.reading_share == 1.0


def test_tasks_of_files_are_trained_on_and_held_out_ones_are_not() -> None:
    source = f"[{{name: codes, source: prepared, options: {{file: {DATA / 'memfactory_small.json'}}}}}]"
    config = training_config(None, ["generated_only=true", f"tasks={source}", "held_out_tasks=2"])
    check_needs(config, load(None, [], {}))
    pool = assemble(config, FromLog(), length=len, section_tokens=80)
    assert (len(pool.training), len(pool.held_out)) == (4, 2)
    assert len({task.id for task in (*pool.training, *pool.held_out)}) == 6
    assert assemble(config, FromLog(), length=len, section_tokens=80) == pool
    with pytest.raises(ConfigurationError, match="lower held_out_tasks"):
        assemble(config.model_copy(update={"held_out_tasks": 6}), FromLog(), length=len, section_tokens=80)
