"""How well a seed model does each skill: exact match on samples of the held-out part of the world."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from trainer.seed import curriculum, tokenizer
from trainer.seed.dialogue import Sample
from trainer.seed.world import World


def skills(folder: Path, *, per_skill: int = 100, temperature: float = 0.0, seed: int = 1) -> dict[str, float]:
    """Share of samples of each skill that the model in `folder` completes exactly, with no mistakes in the reference.

    `temperature` 0 is greedy. Values asked for belong to the held-out part of the world.
    """
    tok = PreTrainedTokenizerFast.from_pretrained(folder)
    model: Any = Qwen3ForCausalLM.from_pretrained(folder)
    model.eval()
    by_skill: dict[str, list[Sample]] = {name: [] for name, _ in curriculum.MIXTURE}
    world = World(random.Random(f"evaluate/{seed}"), "held_out")
    while any(len(samples) < per_skill for samples in by_skill.values()):
        sample = curriculum.draw(world, 0.0, lambda text: len(tok.encode(text)))
        if len(by_skill[sample.skill]) < per_skill:
            by_skill[sample.skill].append(sample)
    torch.manual_seed(seed)
    return {
        name: sum(_complete(model, tok, s, temperature) == s.completion for s in samples) / per_skill for name, samples in by_skill.items()
    }


def _complete(model: Any, tok: PreTrainedTokenizerFast, sample: Sample, temperature: float) -> str:
    ids = torch.tensor([tok.encode(tokenizer.render(sample.messages))])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=48,
            do_sample=temperature > 0,
            **({"temperature": temperature, "top_k": 0} if temperature > 0 else {}),
        )
    return str(tok.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
