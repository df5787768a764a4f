"""`recollect train --replace` and the retraining after forgetting: what is refused, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand

from clients.memory_calls import Forgotten
from recollect.cli_forgotten import print_forgotten
from recollect.errors import ConfigurationError, InvalidRequest, NotFound
from recollect.invocation import Invocation
from recollect.learned import LEARNED
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256
from recollect.retired import Retired
from recollect.settings_read import load
from tests.contract.test_training_loop import write_log
from tests.unit.trainer.test_adapter_registry import manifest
from trainer.cli import train
from trainer.cli_replace import retrained
from trainer.replacement import configuration_of


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One retired version, trained with 7 iterations since the cursor against a frozen policy."""
    made, registry = tmp_path / "made", Registry(tmp_path / "adapters")
    made.mkdir()
    (made / WEIGHTS).write_text("weights")
    (made / CONFIG).write_text("{}")
    configuration = {"iterations": 7, "from_log": {"since": "cursor", "probes": 3}, "frozen": {"memory-answer": "m@v1"}}
    said = manifest(made, 1).model_copy(update={"configuration": configuration, "sha256": file_sha256(made / WEIGHTS)})
    registry.publish(made, said)
    registry.retire("memory", {1: Retired(certificate="c1", reason=LEARNED)})
    return registry


def command(home: Path, *overrides: str, replace: str, config: Path | None = None) -> None:
    context = typer.Context(TyperCommand("train"), obj=Invocation(None, home))
    train(context, list(overrides), config=config, engine_url=None, replace=replace, generated_only=False, dry=False, as_json=False)


def test_a_replacement_has_the_configuration_of_what_it_replaces_and_the_whole_log(registry: Registry) -> None:
    found = configuration_of(registry, "memory", 1)
    assert (found.policy, found.iterations, found.from_log.since, found.from_log.probes) == ("memory", 7, "all", 3)


def test_what_cannot_be_replaced_says_why(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no version 2"):
        command(tmp_path, replace="memory@v2")
    with pytest.raises(InvalidRequest, match="memory@base is the base model"):
        command(tmp_path, replace="memory@base")
    with pytest.raises(InvalidRequest, match="names no version"):
        command(tmp_path, replace="memory")
    with pytest.raises(ConfigurationError, match="leave --config out"):
        command(tmp_path, replace="memory@v1", config=tmp_path / "train.yaml")
    with pytest.raises(ConfigurationError, match="did you mean 'iterations'"):
        command(tmp_path, "iteration=3", replace="memory@v1")


def test_an_empty_log_is_nothing_to_do_and_a_failure_says_how_to_go_on(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(typer.Exit) as ended:
        command(tmp_path, replace="memory@v1")
    assert ended.value.exit_code == 3
    [outcome] = retrained(load(None, [f"home={tmp_path}"], {}), {"memory": "v1"})
    assert (outcome["failed"], outcome["said"].partition(":")[0]) == (False, "nothing replaces memory@v1")

    write_log(tmp_path, 2)  # something to learn from, and no engine to do it with
    [outcome] = retrained(load(None, [f"home={tmp_path}"], {}), {"memory": "v1"})
    assert outcome["failed"]
    assert outcome["said"].startswith(f"memory@v1 was not replaced: no server with an engine runs on home {tmp_path}; start one")
    assert outcome["said"].endswith("; again: recollect train --replace memory@v1")


def test_the_certificate_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    found = Forgotten(
        **{"id": "c1", "scope": "namespace", "memories": 2, "versions": 3, "trajectories": 4, "verified": "looked"},
        adapters=["memory@v1", "memory@v2"],
        quarantined=["memory@runr9"],
        was={"memory": "v2"},
        now={"memory": "base"},
    )
    print_forgotten(found, retrain=False)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "learned from it, and answer no more: memory@v1, memory@v2",
        "learned from it, and deleted from quarantine: memory@runr9",
        "memory@v2 was current, now it is memory@base; train what replaces it: recollect train --replace memory@v2",
    ]
