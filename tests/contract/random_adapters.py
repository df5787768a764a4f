"""Writes small random LoRA adapters in PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def random_adapter(
    folder: Path, model_folder: Path, *, rank: int = 4, seed: int = 0, scale: float = 0.3, hidden: int | None = None
) -> Path:
    """An adapter of the output projections of every layer; `hidden` other than the model's makes one of another base."""
    config = json.loads((model_folder / "config.json").read_text())
    hidden_size = hidden or int(config["hidden_size"])
    inner = config["num_attention_heads"] * config["head_dim"]
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = rng.normal(0, scale, (rank, inner)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = rng.normal(0, scale, (hidden_size, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["o_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder
