"""A plugin that vLLM loads into its own processes: right and fast LoRA kernels on a CPU.

vLLM 0.32's CPU kernels copy an adapter's weights once for every token of a batch, and take index -1 ("no adapter") for the
last slot, so that rows of the base model which share a batch with an adapter's request are computed with that adapter.
Here each adapter in the batch is one matrix product over its own rows, and rows without one get zeros.
Registered as an entry point (`vllm.general_plugins`); the serving process never imports this file.
"""

# pyright: basic
# because vllm and torch carry no types, and the server's own environment has neither.

from __future__ import annotations

from typing import Any

KERNELS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")


def register() -> None:
    """Put the kernels in both places that hold them. Harmless where the kernels are not the CPU's."""
    try:
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu
    except ImportError:
        return
    for name in KERNELS:
        for module in (lora_ops, punica_cpu):
            if hasattr(module, name):
                setattr(module, name, globals()[name])


def bgmv_shrink(inputs: Any, lora_b_weights: Any, output_tensor: Any, lora_indices_tensor: Any, scaling: float = 1.0) -> None:
    """Rows (B, in) to the low rank, (B, rank), times `scaling`."""
    outputs = _product(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    output_tensor[:, : outputs.shape[1]] = scaling * outputs


def bgmv_expand(inputs: Any, lora_b_weights: Any, output_tensor: Any, lora_indices_tensor: Any, add_inputs: bool = True) -> None:
    """Rows (B, rank) to the output, (B, out), which may be padded differently."""
    outputs = _product(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    width = min(outputs.shape[1], output_tensor.shape[1])
    rows = 1 if outputs.shape[0] == 1 else output_tensor.shape[0]
    _put(output_tensor[:, :width], outputs[:rows, :width], add_inputs)


def bgmv_expand_slice(
    inputs: Any,
    lora_b_weights: Any,
    output_tensor: Any,
    lora_indices_tensor: Any,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """As `bgmv_expand`, into columns `slice_offset` to `slice_offset + slice_size`."""
    outputs = _product(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    _put(output_tensor[:, slice_offset : slice_offset + slice_size], outputs, add_inputs)


def _put(target: Any, outputs: Any, add: bool) -> None:
    if add:
        target += outputs
    else:
        target[:] = outputs


def _product(inputs: Any, weights: Any, indices: Any, dtype: Any) -> Any:
    """`inputs[b] @ weights[indices[b]].T` for each row b; zeros where the index is negative. Weights are (slots, [1,] out, in)."""
    inputs = inputs.to(dtype=dtype)
    if weights.dim() == 4:
        weights = weights.squeeze(1)
    slots = indices.unique().tolist()
    if len(slots) == 1 and slots[0] >= 0:
        return inputs @ weights[slots[0]].to(dtype=dtype).T
    outputs = inputs.new_zeros(inputs.shape[0], weights.shape[1])
    for slot in slots:
        if slot >= 0:
            rows = (indices == slot).nonzero().squeeze(1)
            outputs[rows] = inputs[rows] @ weights[slot].to(dtype=dtype).T
    return outputs
