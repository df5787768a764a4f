"""Nights that publish canaries: the version in force answers on, the next night judges first, and learns nothing while it is undecided."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recollect.canary import canary_in, keep_canary
from recollect.errors import Conflict
from recollect.quarantine import quarantined
from recollect.registry import Registry
from recollect.trajectory import now
from server.engines.scripted import ScriptedEngine
from tests.contract.test_nights import CONFIG, night
from tests.contract.test_training_loop import learning, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.cli_nightly import nightly as nightly_command
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.nightly import NOTHING, PUBLISHED
from trainer.resuming import saved_config

TRIED = TrainConfig.model_validate(CONFIG.model_dump() | {"canary": {"share": 0.25, "min_rewards": 8, "max_hours": 24}})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def home(base: Path, tmp_path: Path) -> Path:
    """A home on which a night has published a canary."""
    write_log(tmp_path, 16)
    done = night(settings(tmp_path, base), learning(), config=TRIED)
    assert (done.code, done.said.startswith("published memory@v1 as a canary for 25% of new sessions: held-out 0.")) == (PUBLISHED, True)
    return tmp_path


def _long_ago(registry: Registry) -> None:
    folder = registry.path("memory", 1)
    canary = canary_in(folder)
    assert canary is not None
    keep_canary(folder, canary.model_copy(update={"since": now() - timedelta(hours=25)}))


async def test_a_night_publishes_a_canary_and_the_next_waits_for_it(base: Path, home: Path) -> None:
    registry = Registry(home / "adapters")
    found = registry.canary("memory")
    assert found is not None
    assert (registry.current("memory"), found.version, found.canary.over) == (None, 1, None)
    assert (found.canary.share, found.canary.max_hours, found.canary.margin) == (0.25, 24, CONFIG.gate.own_margin)
    [run] = (home / "runs").glob("*/")
    assert json.loads((run / "report.json").read_text())["canary"] == 0.25
    assert "Published as memory@v1, a canary." in (run / "report.md").read_text()
    write_log(home, 16, first=16)
    with pytest.raises(Conflict, match="or end it by hand: recollect adapters promote memory@v1, or rollback memory"):
        await train(TRIED, settings(home, base), learning())


def test_a_night_does_not_learn_while_a_canary_is_undecided_and_goes_on_from_what_was_promoted(base: Path, home: Path) -> None:
    registry = Registry(home / "adapters")
    write_log(home, 16, first=16)
    unasked = ScriptedEngine()
    waiting = night(settings(home, base), unasked, config=TRIED)
    assert waiting.code == NOTHING
    assert waiting.said.startswith("nothing to do: memory@v1 is a canary until ")
    assert waiting.said.endswith("at most: 0 rewarded sessions against 0")
    assert unasked.calls == []
    registry.set_current("memory", 1)
    done = night(settings(home, base), learning(), config=TRIED)
    assert done.code != NOTHING
    assert done.result is not None
    assert saved_config(done.result.run)["parent"] == 1


def test_a_night_takes_a_canary_back_whose_time_is_over_and_learns_what_is_new(base: Path, home: Path) -> None:
    registry = Registry(home / "adapters")
    _long_ago(registry)
    write_log(home, 16, first=16)
    done = night(settings(home, base), learning(), config=TRIED)
    assert done.code == PUBLISHED
    assert done.said.startswith(
        "memory@v1 was taken back: undecided after 24 hours: 0 rewarded sessions against 0; published memory@v2 as a canary"
    )
    assert [one.reasons[0] for one in quarantined(registry, "memory")] == [
        "as canary memory@v1: undecided after 24 hours: 0 rewarded sessions against 0"
    ]
    found = registry.canary("memory")
    assert found is not None
    assert (found.version, registry.manifest("memory", 2).parent) == (2, None)


def test_a_night_with_nothing_new_tells_what_became_of_the_canary(base: Path, home: Path) -> None:
    _long_ago(Registry(home / "adapters"))
    done = night(settings(home, base), learning(), config=TRIED)
    assert done.code == NOTHING
    assert done.said.startswith("memory@v1 was taken back: undecided after 24 hours")
    assert "nothing to do" in done.said


def test_a_dry_run_says_that_a_canary_is_waited_for(base: Path, home: Path) -> None:
    app = typer.Typer()
    app.command()(nightly_command)
    chosen = settings(home, base)
    overrides = [f"home={home}", f"engine.model={chosen.engine.model}", "embedder.kind=hash", "agents.prompts=compact"]
    said = CliRunner().invoke(app, [*overrides, "agents.writing=operations", "--dry-run"])
    assert said.exit_code == NOTHING, said.output
    assert said.stdout.startswith("nothing to do: memory@v1 is a canary until ")


def test_a_night_ends_a_run_that_died_behind_its_publication(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, 16)
    with monkeypatch.context() as patched:
        patched.setattr("trainer.loop.write_report", _full)
        failed = night(settings(tmp_path, base), learning(), config=TRIED)
    assert "no space" in failed.said
    registry = Registry(tmp_path / "adapters")
    before = registry.canary("memory")
    assert before is not None
    done = night(settings(tmp_path, base), learning(), config=TRIED)
    assert done.code == PUBLISHED
    assert (registry.canary("memory"), registry.current("memory"), registry.versions("memory")) == (before, None, [1])


def _full(*_: object) -> None:
    raise OSError("no space")
