"""The CPU LoRA kernels: equal to vLLM's where vLLM's are right, zeros for rows without an adapter."""

from __future__ import annotations

import pytest
import torch
from vllm.lora.ops.torch_ops import lora_ops

from server.engines import cpu_lora_plugin as ours

ROWS, RANK, WIDTH, SLOTS = 40, 8, 32, 4


@pytest.fixture(scope="module")
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def drawn(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("slots", [1, 3])
def test_rows_with_adapters_are_computed_as_vllm_does(generator: torch.Generator, slots: int) -> None:
    indices = torch.randint(0, slots, (ROWS,), generator=generator)
    inputs, shrink, expand = drawn(generator, ROWS, WIDTH), drawn(generator, SLOTS, 1, RANK, WIDTH), drawn(generator, SLOTS, 1, WIDTH, RANK)
    low = [torch.zeros(ROWS, RANK) for _ in range(2)]
    for kernels, out in zip((lora_ops, ours), low, strict=True):
        kernels.bgmv_shrink(inputs, shrink, out, indices, 0.5)
    torch.testing.assert_close(low[0], low[1], rtol=1e-4, atol=1e-4)
    full = [torch.ones(ROWS, WIDTH) for _ in range(2)]
    sliced = [torch.ones(ROWS, 2 * WIDTH) for _ in range(2)]
    for kernels, whole, part in zip((lora_ops, ours), full, sliced, strict=True):
        kernels.bgmv_expand(low[0], expand, whole, indices, True)
        kernels.bgmv_expand_slice(low[0], expand, part, indices, WIDTH, WIDTH, True)
    torch.testing.assert_close(full[0], full[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sliced[0], sliced[1], rtol=1e-4, atol=1e-4)


def test_rows_without_an_adapter_get_nothing_of_another(generator: torch.Generator) -> None:
    indices = torch.tensor([0, -1] * (ROWS // 2))
    low = torch.zeros(ROWS, RANK)
    ours.bgmv_shrink(drawn(generator, ROWS, WIDTH), drawn(generator, SLOTS, 1, RANK, WIDTH), low, indices, 1.0)
    assert not low[1::2].any()
    out = torch.ones(ROWS, WIDTH)
    ours.bgmv_expand(low, drawn(generator, SLOTS, 1, WIDTH, RANK), out, indices, True)
    assert (out[1::2] == 1).all()
    assert (out[0::2] != 1).any()
