"""`recollect adapters show|diff|gc`, and the sentences that say why a version answers."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from recollect.adapter_story import why
from recollect.cli_adapters import app as adapters
from recollect.errors import InvalidRequest, NotFound
from recollect.invocation import Invocation
from recollect.manifest import Fingerprint, FingerprintProbe, Manifest
from recollect.quarantine import REASON, put_aside, quarantined
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256
from recollect.trajectory import now

GAIN = {"held_out_before": 0.2, "held_out_after": 0.4, "difference": 0.2, "difference_low": 0.1, "difference_high": 0.3}


def made(folder: Path, version: int, *, parent: int | None = None, run_id: str = "", **changed: Any) -> Manifest:
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(f"weights {version} {run_id}".encode())
    (folder / CONFIG).write_text("{}")
    fields: dict[str, Any] = {
        "trajectory_ids": [f"{n:064}" for n in range(version)],
        "configuration": {"seed": version, "optimisation": {"rank": 4}},
        "metrics": GAIN,
        "fingerprint": Fingerprint(probes=[FingerprintProbe(prompt_ids=[1], completion_ids=[version], logprobs=[-0.5])]),
    }
    return Manifest(
        policy="memory",
        version=version,
        parent=parent,
        base="seed",
        run_id=run_id or f"r{version}",
        rank=4,
        alpha=8,
        target_modules=["q_proj"],
        sha256=file_sha256(folder / WEIGHTS),
        **fields | changed,
    )


def published(home: Path, count: int) -> Registry:
    registry = Registry(home / "adapters")
    for version in range(1, count + 1):
        registry.publish(home / "c", made(home / "c", version, parent=version - 1 or None))
    return registry


def called(home: Path, *words: str) -> str:
    def options(ctx: typer.Context) -> None:
        ctx.obj = Invocation(home=home)

    app = typer.Typer(callback=options)
    app.add_typer(adapters, name="adapters")
    done = CliRunner().invoke(app, ["adapters", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_version_is_shown_with_what_it_learned_from_and_showed(tmp_path: Path) -> None:
    registry = published(tmp_path, 2)
    shown = called(tmp_path, "show", "memory@v2")
    for text in ("memory@v2", "from          v1", "2 trajectories", "held-out 0.200 to 0.400 (+0.200, 95 % +0.100 to +0.300) against v1"):
        assert text in shown
    assert json.loads(called(tmp_path, "show", "memory", "--json"))["version"] == 2
    gate = {"passed": False, "reasons": ["not better for certain"], "said": []}
    put_aside(registry, tmp_path / "c", made(tmp_path / "c", 0, run_id="ab1", metrics=GAIN | {"gate": gate}), ["not better for certain"])
    aside = called(tmp_path, "show", "memory@runab1")
    assert "memory@runab1, in quarantine" in aside
    assert "not better for certain" in aside
    for name, error in (("memory@v9", NotFound), ("memory@runzz", NotFound), ("a@b@c", InvalidRequest)):
        with pytest.raises(error):
            called(tmp_path, "show", name)


def test_what_parts_two_versions_is_told_and_nothing_else(tmp_path: Path) -> None:
    published(tmp_path, 3)
    rows = json.loads(called(tmp_path, "diff", "memory@v1", "memory@v3", "--json"))
    assert rows["configuration.seed"] == [1, 3]
    assert rows["trajectories learned from alone"] == [0, 2]
    assert rows["fixed prompts answered differently"] == [1, 1]
    assert "configuration.optimisation.rank" not in rows
    assert "configuration.seed" in called(tmp_path, "diff", "memory@v1", "memory@v3")


def test_old_weights_go_and_what_answers_or_may_be_gone_back_to_stays(tmp_path: Path) -> None:
    registry = published(tmp_path, 6)
    registry.set_current("memory", 3)
    put_aside(registry, tmp_path / "c", made(tmp_path / "c", 0, run_id="ab1"), ["no"])
    assert called(tmp_path, "gc", "--keep", "2", "--days", "0", "--dry-run").splitlines() == [
        "would delete the weights of memory@v1",
        "would delete the weights of memory@v4",
        "would delete the weights of memory@runab1",
    ]
    assert len(list(tmp_path.rglob(WEIGHTS))) == 8
    called(tmp_path, "gc", "--keep", "2")
    left = [version for version in registry.versions("memory") if (registry.path("memory", version) / WEIGHTS).exists()]
    assert left == [2, 3, 5, 6]
    assert "its weights were deleted" in called(tmp_path, "show", "memory@v1")
    assert registry.rollback("memory") == 2
    assert [one.run_id for one in quarantined(registry, "memory")] == ["ab1"]
    assert "memory@runab1" in called(tmp_path, "gc", "--days", "0")
    assert called(tmp_path, "gc", "--days", "0").strip() == "nothing to delete"


def test_why_a_version_answers_and_what_was_refused_since_is_said(tmp_path: Path) -> None:
    registry = published(tmp_path, 1)
    [sentence] = why(registry, "memory")
    assert sentence.startswith("v1 was published ")
    assert sentence.endswith("held-out 0.200 to 0.400 (+0.200, 95 % +0.100 to +0.300) against the base model")
    place = put_aside(registry, tmp_path / "c", made(tmp_path / "c", 0, run_id="ab1"), ["not better for certain"])
    assert why(registry, "memory")[1].startswith("run ab1 was refused ")
    told = json.loads((place / REASON).read_text()) | {"at": (now() - timedelta(days=9)).isoformat()}
    (place / REASON).write_text(json.dumps(told))
    assert len(why(registry, "memory")) == 1
    assert why(registry, "other") == []
