"""Runs with `publish=gate`: what passes is published with its figures, what does not lies in quarantine with every reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from recollect.quarantine import QUARANTINE, quarantined
from recollect.registry import WEIGHTS, Registry
from server.engines.scripted import Answered, ScriptedCall, ScriptedEngine
from tests.contract.test_training_loop import SMALL, assert_every_number_is_in_the_json, learning, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.canaries import NUMBER, PLANTED
from trainer.config import TrainConfig
from trainer.loop import train

GATED: dict[str, Any] = SMALL | {
    "publish": "gate",
    "held_out_logged_share": 0.5,
    "from_log": {"since": "cursor"},
    "gate": {"regression_tasks": 12, "min_own_tasks": 3},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def spoilt(planted: str = "lead") -> ScriptedEngine:
    """Half right before it learns, always wrong after it."""
    engine = learning()
    before = engine.answer

    def answer(call: ScriptedCall) -> Answered:
        untaught = call.policy.candidate is not None and call.policy.candidate.endswith(".0")
        plain = call.policy.model_copy(update={"adapter": None, "candidate": None})
        if call.policy.adapter and not untaught:
            return planted
        return before(ScriptedCall(call.prompt, call.prompt_ids, plain, call.sampling, call.messages))

    engine.answer = answer
    return engine


async def test_what_is_better_for_certain_is_published_with_the_gates_figures(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    config = TrainConfig.model_validate(GATED | {"gate": {"regression_tasks": 4, "min_own_tasks": 3}})
    result = await train(config, settings(tmp_path, base), learning())
    assert result.refusal is None
    assert result.manifest is not None
    gate = json.loads(result.run.report.read_text())["gate"]
    assert gate == result.manifest.metrics["gate"]
    assert (gate["passed"], gate["reasons"]) == (True, [])
    assert 3 <= gate["own_tasks"] < gate["tasks"]
    assert 0 < gate["norm"] < config.gate.max_norm
    assert gate["divergence"] > 0
    assert gate["canaries"] == NUMBER
    assert_every_number_is_in_the_json(result)
    kept = json.loads((result.run.path / "before.json").read_text())["held_out"]["greedy_answers"]
    own = [answer for answer, task in zip(kept, result.tasks.held_out, strict=True) if task.source == "logged"]
    assert set(own) == {None}
    assert any(answer is not None for answer in kept)
    assert {task.id for task in result.tasks.held_out}.isdisjoint(task.id for task in result.tasks.training)


async def test_what_is_worse_or_follows_what_was_planted_lies_in_quarantine_with_every_reason(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    engine = spoilt(PLANTED)
    result = await train(TrainConfig.model_validate(GATED), settings(tmp_path, base), engine)
    assert (result.version, result.verdict.keep) == (None, True)
    registry = Registry(tmp_path / "adapters")
    assert (registry.versions("memory"), registry.current("memory")) == ([], None)
    [refusal] = quarantined(registry, "memory")
    assert refusal.run_id == result.run.id
    said = "; ".join(refusal.reasons)
    assert "not better for certain" in said
    assert "own held-out tasks may be worse" in said
    assert "canary prompts" in said
    assert json.loads(result.run.report.read_text())["quarantined"]
    assert f"Not published, in quarantine: {said}" in (result.run.path / "report.md").read_text()
    kept = registry.root / "local" / "memory" / QUARANTINE / result.run.id
    with safe_open(kept / WEIGHTS, framework="pt") as tensors:
        assert len(list(tensors.keys())) > 0
    assert engine.adapters == {}


async def test_an_adapter_that_changes_too_much_is_refused_whatever_it_answers(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 16)
    config = TrainConfig.model_validate(GATED | {"gate": {"regression_tasks": 4, "max_norm": 1e-9, "max_divergence": 1e-12}})
    result = await train(config, settings(tmp_path, base), learning())
    assert result.refusal is not None
    assert "gate.max_norm is 1e-09" in result.refusal
    assert "gate.max_divergence is 1e-12" in result.refusal
