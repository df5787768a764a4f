"""`recollect adapters` and canaries where no server runs: listed, shown, judged, promoted and taken back by hand."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from recollect.adapter_story import why
from recollect.canary import Canary
from recollect.cli_adapters import app as adapters
from recollect.invocation import Invocation
from recollect.log import LogWriter
from recollect.registry import Registry
from recollect.settings import LogSettings
from recollect.trajectory import now
from tests.unit.recollect.test_adapters_show import made, published
from tests.unit.recollect.test_canary_rewards import answered, fed


def called(home: Path, *words: str) -> str:
    def options(ctx: typer.Context) -> None:
        ctx.obj = Invocation(home=home)

    app = typer.Typer()
    app.callback()(options)
    app.add_typer(adapters, name="adapters")
    done = CliRunner().invoke(app, ["adapters", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def begun(home: Path) -> Registry:
    registry = published(home, 1)
    try_next(registry, home)
    return registry


def try_next(registry: Registry, home: Path) -> None:
    canary = Canary(over=1, share=0.1, min_rewards=8, max_hours=48, margin=0.5)
    registry.publish(home / "c", made(home / "c", registry.next_version("memory"), parent=1), canary=canary)


def rewarded(home: Path, number: int, scores: dict[int, float]) -> None:
    writer = LogWriter(home / "trajectories", LogSettings())
    for index in range(number):
        for version, score in scores.items():
            session = f"{chr(97 + index % 20)}{index}v{version}"
            writer.append(answered(session, version, at=now()))
            writer.append(fed(session, score=score))
    writer.close()


def test_a_canary_is_listed_with_its_share_and_what_its_rewards_say(tmp_path: Path) -> None:
    begun(tmp_path)
    rewarded(tmp_path, 4, {1: 1.0, 2: 0.5})
    said = called(tmp_path, "list")
    assert "canary, 10%" in said
    assert "memory@v2 answers 10% of new sessions until " in said
    assert "-0.500 (95 %: " in said
    assert "4 rewarded sessions against 4" in said
    [state] = json.loads(called(tmp_path, "list", "--json"))
    assert (state["current"], state["canary"]["name"], state["canary"]["figures"]["canary"]["mean"]) == (1, "memory@v2", 0.5)
    assert "until" in called(tmp_path, "show", "memory@v2")


def test_judge_takes_a_worse_one_back_and_tells_it_everywhere(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    assert called(tmp_path, "judge").startswith("memory@v2 is a canary until ")
    rewarded(tmp_path, 20, {1: 0.9, 2: 0.1})
    assert called(tmp_path, "judge", "memory").startswith("memory@v2 was taken back: its rewards are worse for certain: -0.800")
    assert called(tmp_path, "judge") == "no canary is in force\n"
    assert "canary" not in called(tmp_path, "list").replace("taken back as a canary", "")
    assert "rolled back" in called(tmp_path, "show", "memory@v2")
    assert "was refused" in why(registry, "memory")[-1]
    assert "as canary memory@v2: its rewards are worse" in why(registry, "memory")[-1]


def test_judge_promotes_one_that_is_good_enough(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    rewarded(tmp_path, 20, {1: 0.7, 2: 0.9})
    assert called(tmp_path, "judge").startswith("memory@v2 was promoted: its rewards are not worse by more than 0.5 (lower end at 90 %")
    assert registry.current("memory") == 2
    assert "promoted" in called(tmp_path, "show", "memory@v2")


def test_promote_and_rollback_end_one_by_hand(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    called(tmp_path, "rollback", "memory")
    assert (registry.current("memory"), registry.canary("memory")) == (1, None)
    assert "it was ended by hand" in called(tmp_path, "show", "memory@v2")
    try_next(registry, tmp_path)
    called(tmp_path, "promote", "memory@v3")
    assert (registry.current("memory"), registry.canary("memory")) == (3, None)
    assert "it was made current by hand" in called(tmp_path, "show", "memory@v3")
