"""`recollect train`: its configuration, its lock, its report, and when there is nothing to do."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from matplotlib.image import imread
from rich.console import Console
from typer.testing import CliRunner

from recollect.errors import ConfigurationError, Conflict, NewerLog
from recollect.settings_read import load
from recollect.train_lock import exclusive
from trainer.cli import train, training_config
from trainer.evaluate import Evaluation, paired_difference
from trainer.inputs import LogInput, check_settings, nothing_to_do, tasks_of_log
from trainer.report import report, table, write_report
from trainer.result import TrainResult
from trainer.run_folder import RunFolder
from trainer.task_pool import TaskPool
from trainer.verdict import Verdict


def test_a_file_and_overrides_make_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("iterations: 3\noptimisation: {rank: 4}\n")
    found = training_config(file, ["group_size=4", "optimisation.learning_rate=0.01"], generated_only=True)
    assert (found.iterations, found.group_size, found.generated_only) == (3, 4, True)
    assert (found.optimisation.rank, found.optimisation.learning_rate) == (4, 0.01)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["iteration=3"], "did you mean 'iterations'"),
        (["optimisation.rnk=3"], "did you mean 'optimisation.rank'"),
        (["group_size=1"], "group_size"),
        (["iterations"], "write key=value"),
        (["iterations=["], "'iterations': the value is not YAML"),
        (["optimisation.rank={"], r"'optimisation\.rank': the value is not YAML"),
        (["seed.x=1"], "seed"),
        (["optimisation.loss=luspo"], "set optimisation.ratios=sequence"),
        (["optimisation.ratios=sequence"], "under loss dapo: take grpo or sapo or luspo"),
        (["decided_after=8"], r"decided_after must be 2 or more and less than group_size \(8\)"),
        (["decided_after=1"], "decided_after must be 2 or more"),
        (["max_lag=1", "optimisation.importance_cap=null"], "set optimisation.importance_cap"),
        (["rewards.exact_match=0", "rewards.format=0"], "must be above 0"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_meant(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        training_config(None, overrides)


def test_a_file_that_cannot_be_read_names_the_option(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"--config .*train\.yaml is not UTF-8"):
        training_config(file, [])
    with pytest.raises(ConfigurationError, match=r"--config .*: Is a directory; give a YAML file"):
        training_config(tmp_path, [])
    file.write_text("optimisation:\nrewards: {format: 0.5}\n")
    found = training_config(file, ["optimisation.importance_cap=null", "optimisation.targets=[q_proj]"])
    assert (found.optimisation.importance_cap, found.optimisation.targets, found.rewards.format) == (None, ("q_proj",), 0.5)


def test_a_rank_that_the_engine_does_not_take_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"optimisation\.rank is 64"):
        check_settings(training_config(None, ["optimisation.rank=64"]), load(None, ["engine.max_lora_rank=16"], {}))


def test_an_upstream_without_token_ids_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no token ids"):
        check_settings(training_config(None, []), load(None, ["engine.kind=openai"], {}))


def test_two_trainers_do_not_overlap_on_one_home(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(Conflict, match="runs on home"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_nothing_to_do_says_why() -> None:
    assert "log is empty" in nothing_to_do(0, {}).message
    assert "2 failed, 1 no feedback" in nothing_to_do(3, {"no feedback": 1, "failed": 2}).message


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(train)
    return app


def test_an_empty_log_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path))
    found = CliRunner().invoke(command(), ["--engine-url", "http://127.0.0.1:9"])
    assert found.exit_code == 3
    assert "nothing to do: the trajectory log is empty" in found.output.replace("\n", " ")
    assert not (tmp_path / "runs").exists()


def test_a_newer_log_is_told_by_its_version_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path))
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories" / "20260101T000000.000000-7.jsonl").write_text('{"schema": 9}\n')
    found = CliRunner().invoke(command(), ["--engine-url", "http://127.0.0.1:9"])
    assert found.exit_code == 1
    assert isinstance(found.exception, NewerLog)
    assert "has schema 9" in str(found.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.lock", "trajectories"]


def test_nothing_new_is_nothing_to_do_and_an_unknown_policy_is_a_mistake(tmp_path: Path) -> None:
    assert "none of 8 trajectories is new" in nothing_to_do(8, {}, num_new=0).message
    with pytest.raises(ConfigurationError, match="'memry' is called by no agent"):
        tasks_of_log(training_config(None, ["policy=memry"]), load(None, [f"home={tmp_path}"], {}), LogInput([]))


def test_without_a_server_the_command_asks_for_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path))
    found = CliRunner().invoke(command(), ["--generated-only"])
    assert found.exit_code == 1
    assert isinstance(found.exception, ConfigurationError)
    assert "--engine-url" in str(found.exception)


def evaluation(policy: str, *sampled: float) -> Evaluation:
    kinds = tuple("reading" if i % 2 else "dialogue" for i in range(len(sampled)))
    tasks = tuple(f"t{i}" for i in range(len(sampled)))
    return Evaluation(policy=policy, tasks=tasks, kinds=kinds, sampled=sampled, greedy=sampled, samples_per_task=4)


def result(home: Path) -> TrainResult:
    run = RunFolder.create(home)
    before, after = evaluation("base", 0.25, 0.5, 0.0, 0.25), evaluation(f"memory@run{run.id}.3", 0.5, 0.75, 0.5, 0.25)
    iterations: list[dict[str, Any]] = [
        {"iteration": i, "reward": 0.2 * i, "reward/exact_match": 0.1 * i, "reward/format": None, "groups": 4, "groups_flat": 1}
        | {"rollout_s": 1.0, "update_s": 0.5, "sync_s": 0.1, "calls": 20, "clip_low": 0.0, "loss": float("nan")}
        for i in range(1, 4)
    ]
    for row in iterations:
        run.append_metrics(row)
    pool = TaskPool((), (), (), {"no feedback": 2})
    difference = paired_difference(before.sampled, after.sampled)
    return TrainResult(run, "memory", None, Verdict(("publish=never",)), before, after, difference, pool, iterations, 12.0, None)


def test_the_report_has_every_figure_in_json_table_and_picture(tmp_path: Path) -> None:
    done = result(tmp_path)
    write_report(done)
    found = json.loads(done.run.report.read_text())
    assert found == report(done)
    assert (found["held_out_before"], found["held_out_after"], found["difference"]) == (0.25, 0.5, 0.25)
    assert (found["groups"], found["groups_flat"], found["version"], found["refusal"]) == (12, 3, None, "publish=never")
    assert imread(done.figure).shape[0] > 100
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(done))
    text = console.export_text()
    for said in ("held-out accuracy, sampled", "0.250", "0.500", "3 all alike", "2 no feedback", "calls/s"):
        assert said in text


def test_metrics_are_json_lines_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in result(tmp_path).metrics.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert lines[0]["loss"] is None


def test_commands_that_may_have_nothing_to_do_import_no_torch() -> None:
    code = "import sys, trainer.cli, trainer.cli_nightly, trainer.cli_runs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
