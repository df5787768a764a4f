"""What a LoRA adapter's weights have become: put aside and back, how much they change the model, how far it is from where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer

from trainer.samples import Sample, by_length

Weights = Mapping[str, torch.Tensor]
MOST_SAMPLES = 64
"""Calls on which a divergence is measured."""


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """By name, what is trained."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def kept(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what is trained, as it is now."""
    return {name: p.detach().clone() for name, p in trained(model).items()}


def put(model: torch.nn.Module, weights: Weights) -> None:
    """Let what is trained be these weights."""
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(weights[name])


def largest_change(model: torch.nn.Module) -> float:
    """Of all adapted weight matrices the largest ratio of the change's Frobenius norm to that of the matrix."""
    found = [0.0]
    for module in model.modules():
        if isinstance(module, LoraLayer) and "default" in module.lora_A:
            down, up, matrix = (_weight(part) for part in (module.lora_A["default"], module.lora_B["default"], module.get_base_layer()))
            squared = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0)  # of the product, without making it
            found.append(float(module.scaling["default"] * squared.sqrt() / matrix.norm()))
    return max(found)


def divergence(model: torch.nn.Module, first: Weights, samples: Sequence[Sample], *, temperature: float) -> float:
    """The mean divergence (k3, Schulman 2020; nats a token) from the model with the weights `first`, on some of the samples."""
    ordered = by_length(samples)
    chosen = ordered[:: max(1, len(ordered) // MOST_SAMPLES)][:MOST_SAMPLES]
    now, learned = [_logprobs(model, sample, temperature) for sample in chosen], kept(model)
    put(model, first)
    try:
        then = [_logprobs(model, sample, temperature) for sample in chosen]
    finally:
        put(model, learned)
    difference = torch.cat([before - after for before, after in zip(then, now, strict=True)]).clamp(max=20.0)
    return float((difference.exp() - 1 - difference).mean())


def _logprobs(model: Any, sample: Sample, temperature: float) -> torch.Tensor:
    """Of the completion's tokens, at the temperature of rollouts."""
    ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]], device=model.device)
    count = len(sample.completion_ids)
    with torch.no_grad():
        logits = model(input_ids=ids, logits_to_keep=count + 1).logits[0, :-1].float() / temperature
    return logits.log_softmax(-1).gather(1, ids[0, -count:, None])[:, 0]


def _weight(module: torch.nn.Module) -> torch.Tensor:
    return cast(torch.Tensor, module.weight).detach().float()
