"""Calls of one prompt in one row: what siblings were asked is computed once, and each of their answers follows it as if alone.

A row is the prompt less its last token, then for each call that token again and the completion. Position ids and an attention mask
part the calls from each other, so that log-probs and gradients are those of the calls by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

MOST_ENTRIES = 2**26
"""Of the rows' attention masks."""
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Packed:
    """R rows of L tokens at most in place of B calls, as a causal language model takes them."""

    input_ids: torch.Tensor
    """(R, L)"""
    position_ids: torch.Tensor
    """(R, L)"""
    attention_mask: torch.Tensor
    """(R, 1, L, L), added to the scores: 0 where a token sees another, else the least number."""
    labels: torch.Tensor
    """(R, L): completion tokens, all others ignored."""
    places: torch.Tensor
    """(B, C): where each completion token's prediction is, in the flattened rows less their last token; 0 for padding."""

    def of_calls(self, values: torch.Tensor) -> torch.Tensor:
        """What belongs to each completion token, (B, C), of the predictions of all tokens but the first, (R, L - 1)."""
        return values.flatten()[self.places]

    def inputs(self) -> dict[str, Any]:
        """What the model is called with."""
        return {name: getattr(self, name) for name in ("input_ids", "position_ids", "attention_mask", "labels")}


def shareable(config: Any) -> bool:
    """Whether a model of this configuration (of transformers) parts calls by the mask alone: not if a layer looks at a window of
    tokens or keeps a state, nor if its attention takes no mask of its own."""
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    return layers == {"full_attention"} and not windowed and getattr(config, "_attn_implementation", None) in ("sdpa", "eager")


def packed(input_ids: torch.Tensor, mask: torch.Tensor, num_completion: int, *, dtype: torch.dtype) -> Packed | None:
    """Pack B calls: prompts are padded on the left, completions (the last `num_completion` columns) on the right; `mask` is 0 for padding.

    None if no two of them share a prompt, or it would save no tokens, or need too much memory: then they are computed as they are.
    """
    prompts = [
        tuple(ids[kept.bool()].tolist()) for ids, kept in zip(input_ids[:, :-num_completion], mask[:, :-num_completion], strict=True)
    ]
    lengths = mask[:, -num_completion:].sum(1).tolist()
    rows: dict[tuple[int, ...], list[int]] = {}
    for call, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(call)
    longest = max(len(prompt) - 1 + sum(1 + lengths[call] for call in calls) for prompt, calls in rows.items())
    fewer = len(rows) * longest < input_ids.numel()
    if len(rows) == len(prompts) or not fewer or len(rows) * longest**2 > MOST_ENTRIES or min(map(len, prompts)) == 0:
        return None
    device, shape = input_ids.device, (len(rows), longest)
    ids, labels = torch.zeros(shape, dtype=input_ids.dtype, device=device), torch.full(shape, IGNORED, device=device)
    positions = torch.zeros(shape, dtype=torch.long, device=device)
    branches = torch.zeros(shape, dtype=torch.long, device=device)  # 0: the prompt, n: the n-th call
    places = torch.zeros((len(prompts), num_completion), dtype=torch.long, device=device)
    for row, (prompt, calls) in enumerate(rows.items()):
        end = len(prompt) - 1
        ids[row, :end] = torch.tensor(prompt[:-1], device=device)
        positions[row, :end] = torch.arange(end, device=device)
        for number, call in enumerate(calls, 1):
            count, start = lengths[call], end
            end = start + 1 + count
            completion = input_ids[call, -num_completion : input_ids.shape[1] - num_completion + count]
            ids[row, start] = prompt[-1]
            ids[row, start + 1 : end] = labels[row, start + 1 : end] = completion
            positions[row, start:end] = torch.arange(len(prompt) - 1, len(prompt) + count, device=device)
            branches[row, start:end] = number
            places[call, :count] = row * (longest - 1) + torch.arange(start, end - 1, device=device)
        branches[row, end:] = len(calls) + 1  # padding sees itself alone
    return Packed(ids, positions, _mask(branches, dtype), labels, places)


def _mask(branches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Every token sees the prompt and its own call, up to itself."""
    length = branches.shape[1]
    before = torch.ones((length, length), dtype=torch.bool, device=branches.device).tril()
    own = branches[:, :, None] == branches[:, None, :]
    seen = before & (own | (branches[:, None, :] == 0))
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
