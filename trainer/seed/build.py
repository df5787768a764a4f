"""Builds the seed model: a small Qwen3-architecture causal LM trained from scratch on generated text.

The build is a pure function of its recipe (fixed seeds) and can be stopped and resumed at its last checkpoint.
Matrices are trained with Muon (Jordan 2024, learning rate matched to AdamW's), everything else with AdamW.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.seed import curriculum, tokenizer
from trainer.seed.dialogue import Sample

os.environ.setdefault("HF_HUB_OFFLINE", "1")
CHECKPOINT_EVERY = 250


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights. `clean_steps` without mistakes come before `mixed_steps` with `mistakes`."""

    seed: int = 7
    hidden: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    intermediate: int = 704
    clean_steps: int = 3300
    mixed_steps: int = 120
    mistakes: float = 0.45
    batch: int = 32
    batches_per_draw: int = 4
    lr: float = 5e-3
    polish_lr: float = 1.5e-3
    """What the clean part after the drills begins with."""
    mixed_lr: float = 5e-4
    warmup_steps: int = 100
    horizon: int = 4000
    """The learning rate follows a cosine over `horizon` steps, and from `decay_from` on a straight line to nearly zero."""
    decay_from: int = 2600
    language_steps: int = 400
    """Steps in which the prompt is learned like the completion; afterwards it weighs `prompt_weight`."""
    prompt_weight: float = 0.1
    drill_from: int = 2000
    """From here on the prompt weighs nothing, and until `drill_until` a share `drills` of the samples are recall drills."""
    drill_until: int = 3000
    drills: float = 0.5
    section_tokens: int = 80

    @property
    def steps(self) -> int:
        return self.clean_steps + self.mixed_steps

    def learning_rate(self, step: int) -> float:
        """Warm-up, cosine, twice a straight line down to a twentieth (during the drills, after them), then `mixed_lr`."""
        if step >= self.clean_steps:
            return self.mixed_lr
        if step >= self.drill_until:
            return self._line(step, self.drill_until, self.polish_lr, self.clean_steps)
        if step >= self.decay_from:
            return self._line(step, self.decay_from, self._cosine(self.decay_from), self.drill_until)
        return self._cosine(step)

    def _line(self, step: int, begin: int, value: float, end: int) -> float:
        left = (end - step) / (end - begin)
        return value * left + self.lr / 20 * (1 - left)

    def weight_of_prompt(self, step: int) -> float:
        """What a prompt token weighs in the loss, where a completion token weighs 1."""
        if step < self.language_steps:
            return 1.0
        return self.prompt_weight if step < self.drill_from else 0.0

    def _cosine(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return self.lr * warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / self.horizon)))


MINIATURE = Recipe(
    hidden=64,
    layers=2,
    heads=2,
    kv_heads=1,
    intermediate=128,
    clean_steps=300,
    mixed_steps=20,
    decay_from=200,
    horizon=400,
    language_steps=50,
)
"""A build of minutes that shows the pipeline works; it answers nothing well."""


def model_of(recipe: Recipe, vocab_size: int) -> Qwen3ForCausalLM:
    """The untrained model."""
    torch.manual_seed(recipe.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            head_dim=recipe.head_dim,
            intermediate_size=recipe.intermediate,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
        )
    )


def encode(samples: list[Sample], tok: PreTrainedTokenizerFast, prompt_weight: float) -> dict[str, torch.Tensor]:
    """Right-padded ids (B, T), attention mask (B, T) and loss weights (B, T); the end token belongs to the completion."""
    rows = []
    for sample in samples:
        prompt = tok.encode(tokenizer.render(sample.messages))
        rows.append((prompt, tok.encode(sample.completion + tokenizer.END)))
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    weights = torch.zeros(len(rows), width)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        mask[i, :end] = 1
        weights[i, : len(prompt)] = prompt_weight
        weights[i, len(prompt) : end] = 1.0
    return {"ids": ids, "mask": mask, "weights": weights}


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Weighted mean cross entropy of the next token."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=batch["ids"], attention_mask=batch["mask"]).logits
    losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["ids"][:, 1:].flatten(), reduction="none")
    weights = batch["weights"][:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def batches(recipe: Recipe, tok: PreTrainedTokenizerFast, first: int) -> Iterator[list[Sample]]:
    """The batches from step `first` on. Four batches are drawn together and sorted by length, so that little is padding."""

    def length(text: str) -> int:
        return len(tok.encode(text))

    num = recipe.batches_per_draw
    for draw in range(first // num, math.ceil(recipe.steps / num)):
        step = draw * num
        mistakes = recipe.mistakes if step >= recipe.clean_steps else 0.0
        drills = recipe.drills if recipe.drill_from <= step < recipe.drill_until else 0.0
        samples = curriculum.batch(recipe.seed, draw, recipe.batch * num, mistakes, length, recipe.section_tokens, drills)
        samples.sort(key=lambda s: sum(len(m.content) for m in s.messages))
        order = list(range(num))
        random.Random(f"{recipe.seed}/order/{draw}").shuffle(order)
        for i, k in enumerate(order):
            if draw * num + i >= first:
                yield samples[k * recipe.batch : (k + 1) * recipe.batch]


def build(recipe: Recipe, folder: Path, *, work: Path, on_step: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Train by `recipe`, save the model to `folder`, keep checkpoints in `work`. Returns the figures of the build."""
    work.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    tokenizer.save(tokenizer.train(recipe.seed), folder)
    tok = PreTrainedTokenizerFast.from_pretrained(folder)
    model = model_of(recipe, len(tok))
    optims = optimizers(model)
    step, tokens, seconds = 0, 0, 0.0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] == asdict(recipe):
            model.load_state_dict(saved["model"])
            for optim, state in zip(optims, saved["optims"], strict=True):
                optim.load_state_dict(state)
            step, tokens, seconds = saved["step"], saved["tokens"], saved["seconds"]

    def save() -> None:
        state = {
            "recipe": asdict(recipe),
            "model": model.state_dict(),
            "optims": [o.state_dict() for o in optims],
            "step": step,
            "tokens": tokens,
            "seconds": seconds,
        }
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    model.train()
    with (work / "metrics.jsonl").open("a") as metrics:
        for samples in batches(recipe, tok, step):
            began = time.perf_counter()
            batch = encode(samples, tok, recipe.weight_of_prompt(step))
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optim in optims:
                for group in optim.param_groups:
                    group["lr"] = recipe.learning_rate(step)
                optim.step()
                optim.zero_grad(set_to_none=True)
            step += 1
            tokens += int(batch["mask"].sum())
            seconds += time.perf_counter() - began
            if step % 20 == 0:
                metrics.write(json.dumps({"step": step, "loss": round(loss.item(), 4), "tokens": tokens, "s": round(seconds, 1)}) + "\n")
                metrics.flush()
            if on_step:
                on_step(step, loss.item())
            if step % CHECKPOINT_EVERY == 0 or step in (recipe.drill_until, recipe.clean_steps, recipe.steps):
                save()
    model.save_pretrained(folder, safe_serialization=True)
    return {"steps": step, "tokens": tokens, "seconds": round(seconds), "parameters": sum(p.numel() for p in model.parameters())}
