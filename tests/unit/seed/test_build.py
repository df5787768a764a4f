"""The seed model's build: resumable, deterministic, and the bundled files are the ones that were built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from recollect.errors import ConfigurationError
from recollect.messages import assistant, user
from recollect.settings import SEED_MODEL
from trainer.seed import build, card, tokenizer

TINY = dataclasses.replace(
    build.MINIATURE, clean_steps=8, mixed_steps=4, decay_from=4, drill_from=4, drill_until=6, batch=4, language_steps=4
)


class Stopped(Exception):
    """The build was interrupted."""


def test_the_bundled_model_is_the_one_that_was_built() -> None:
    assert card.check(SEED_MODEL) == []
    assert (SEED_MODEL / "model.safetensors").stat().st_size <= 20 * 2**20


def test_a_missing_seed_model_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="recollect seed build"):
        card.check(tmp_path)


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    build.build(TINY, tmp_path / "model", work=tmp_path / "work")
    card.write(tmp_path / "model", TINY, {"steps": 12, "tokens": 1, "seconds": 1, "parameters": 1}, {"answer": 0.0}, {"answer": 0.0}, 1)
    assert card.check(tmp_path / "model") == []
    (tmp_path / "model" / "config.json").write_text("{}")
    assert card.check(tmp_path / "model") == ["config.json"]


def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CHECKPOINT_EVERY", 4)

    def stop(step: int, _: float) -> None:
        if step == 6:
            raise Stopped

    with pytest.raises(Stopped):
        build.build(TINY, tmp_path / "stopped", work=tmp_path / "work", on_step=stop)
    steps: list[int] = []
    build.build(TINY, tmp_path / "stopped", work=tmp_path / "work", on_step=lambda step, _: steps.append(step))
    assert steps[0] == 5
    build.build(TINY, tmp_path / "whole", work=tmp_path / "other")
    resumed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_miniature_learns_and_is_a_model_like_any_other(tmp_path: Path) -> None:
    losses: list[float] = []
    figures = build.build(build.MINIATURE, tmp_path / "model", work=tmp_path / "work", on_step=lambda _, loss: losses.append(loss))
    assert figures["steps"] == build.MINIATURE.steps
    assert sum(losses[100:120]) < 0.7 * sum(losses[:20])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.model_type == "qwen3"
    messages = [user("My dog is Tarvo 42."), assistant("Noted."), user("What is my dog?")]
    templated = AutoTokenizer.from_pretrained(tmp_path / "model").apply_chat_template(
        [m.model_dump() for m in messages], tokenize=False, add_generation_prompt=True
    )
    assert templated == tokenizer.render(messages)
