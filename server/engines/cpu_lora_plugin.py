"""A plugin that vLLM loads into its own processes: base-model requests get no adapter's weights on a CPU.

vLLM 0.32's CPU LoRA kernels take index -1 ("no adapter") for the last slot, so that rows of the base model which share a
batch with an adapter's request are computed with that adapter. Here those rows of the low-rank product are set to zero.
Registered as an entry point (`vllm.general_plugins`); the serving process never imports this file.
"""

# pyright: basic
# because vllm and torch carry no types, and the server's own environment has neither.

from __future__ import annotations

from typing import Any


def register() -> None:
    """Wrap the kernel in both places that hold it. Harmless where the kernels are not the CPU's."""
    try:
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu
    except ImportError:
        return
    shrink = lora_ops.bgmv_shrink

    def bgmv_shrink(inputs: Any, lora_b_weights: Any, output_tensor: Any, lora_indices_tensor: Any, scaling: float = 1.0) -> None:
        shrink(inputs, lora_b_weights, output_tensor, lora_indices_tensor, scaling)
        output_tensor[lora_indices_tensor < 0] = 0

    lora_ops.bgmv_shrink = bgmv_shrink
    punica_cpu.bgmv_shrink = bgmv_shrink  # pyright: ignore[reportPrivateImportUsage]
