"""Adapters that do not fit are refused before an engine sees them, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from recollect.errors import AdapterRefused
from server.engines.adapter_files import check

LAYER = "model.layers.0.self_attn.o_proj"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({f"{LAYER}.weight": np.zeros((8, 6), np.float32)}, folder / "model.safetensors")
    return folder


def adapter(folder: Path, *, name: str = LAYER, a: tuple[int, ...] = (4, 6), b: tuple[int, ...] | None = (8, 4), **config: Any) -> Path:
    folder.mkdir()
    tensors = {f"base_model.model.{name}.lora_A.weight": np.ones(a, np.float32)}
    if b is not None:
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.ones(b, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "target_modules": ["o_proj"], **config}))
    return folder


def test_an_adapter_that_fits_is_taken(tmp_path: Path, model: Path) -> None:
    folder = adapter(tmp_path / "fits")
    assert check(folder, max_rank=4, model=model) == folder
    assert check(folder, max_rank=4) == folder


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"r": 32}, "rank 32 is above the engine's 16"),
        ({"r": 0}, "no rank"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 8}, "has rank 4, adapter_config.json says 8"),
        ({"b": (8, 3)}, "has rank"),
        ({"b": None}, "only one of lora_A and lora_B"),
        ({"a": (4, 3), "b": (4, 4)}, "trained on another base"),
        ({"name": "model.layers.1.self_attn.o_proj"}, "the base model has no model.layers.1"),
        ({"name": "lm_head"}, "projections only"),
        ({"a": (4, 6, 1)}, "belongs to no LoRA matrix"),
    ],
)
def test_a_misfit_is_refused_with_its_reason(tmp_path: Path, model: Path, fault: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdapterRefused, match=reason) as refused:
        check(adapter(tmp_path / "misfit", **fault), max_rank=16, model=model)
    assert refused.value.param == "path"


def test_broken_files_are_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "broken")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole = weights.read_bytes()
    for data, reason in ((whole[:-1], "cut short"), (b"pickle", "no safetensors"), (whole[:8] + b"{" * (len(whole) - 8), "broken header")):
        weights.write_bytes(data)
        with pytest.raises(AdapterRefused, match=reason):
            check(folder, max_rank=16)
    weights.unlink()
    with pytest.raises(AdapterRefused, match="other formats"):
        check(folder, max_rank=16)
    for text in ("{", "[]"):
        config.write_text(text)
        with pytest.raises(AdapterRefused, match=r"adapter_config\.json is no"):
            check(folder, max_rank=16)
    config.unlink()
    with pytest.raises(AdapterRefused, match=r"no adapter_config\.json"):
        check(folder, max_rank=16)
    with pytest.raises(AdapterRefused, match="no such folder"):
        check(tmp_path / "nowhere", max_rank=16)
