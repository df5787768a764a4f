"""Whether the files of a LoRA adapter fit a base model, before an engine sees them.

vLLM takes some misfits in silence: an adapter of a smaller model is copied into a corner of the matrices, layers that
the model lacks are dropped, a rank that differs from the declared one is scaled wrongly. Here each is refused.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any, cast

from recollect.errors import AdapterRefused

Shapes = dict[str, tuple[int, ...]]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_UNSERVED = ("lm_head", "embed_tokens")
_HEADER_LIMIT = 100 * 2**20
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")


def check(folder: Path, *, max_rank: int, model: Path | None = None) -> Path:
    """Raise AdapterRefused, with the reason, unless `folder` holds a plain LoRA adapter of rank `max_rank` at most.

    `model`: the folder of the base model; its layers and shapes are then compared too. Reads headers, no weights.
    Returns the folder's absolute path.
    """
    folder = folder.absolute()
    config = _config(folder)
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise _refused(folder, f"{CONFIG} has no rank r")
    if rank > max_rank:
        raise _refused(folder, f"its rank {rank} is above the engine's {max_rank}; train with a lower rank or raise engine.max_lora_rank")
    for key in ("use_dora", "modules_to_save", "lora_bias", "rank_pattern"):
        if config.get(key):
            raise _refused(folder, f"{key} is set, which is not served")
    if not (folder / WEIGHTS).is_file():
        raise _refused(folder, f"it has no {WEIGHTS}; other formats are not read")
    _pairs(folder, _header(folder / WEIGHTS, folder), rank, _base_shapes(model, folder) if model else None)
    return folder


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise _refused(folder, "there is no such folder")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise _refused(folder, f"it has no {CONFIG}") from None
    except ValueError as exc:
        raise _refused(folder, f"{CONFIG} is not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise _refused(folder, f"{CONFIG} is no mapping")
    return cast("dict[str, Any]", config)


def _header(file: Path, folder: Path) -> Shapes:
    """Names and shapes of the tensors of a safetensors file: eight bytes of length, then JSON."""
    with file.open("rb") as stream:
        size = file.stat().st_size
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(size - 8, _HEADER_LIMIT):
            raise _refused(folder, f"{file.name} is no safetensors file, or it is cut short")
        try:
            header = cast("dict[str, dict[str, Any]]", json.loads(stream.read(length)))
        except ValueError as exc:
            raise _refused(folder, f"{file.name} has a broken header") from exc
    header.pop("__metadata__", None)
    if any(entry["data_offsets"][1] > size - 8 - length for entry in header.values()):
        raise _refused(folder, f"{file.name} is cut short")
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def _base_shapes(model: Path, folder: Path) -> Shapes:
    shapes: Shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        shapes |= _header(file, folder)
    return shapes


def _pairs(folder: Path, tensors: Shapes, rank: int, base: Shapes | None) -> None:
    """Every A (rank, in) has its B (out, rank), and the base has a matrix (out, in) of that name."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensors.items():
        match = _LORA.fullmatch(name)
        if match is None or len(shape) != 2:
            raise _refused(folder, f"tensor {name!r} of shape {shape} belongs to no LoRA matrix")
        found.setdefault(match[1], {})[match[2]] = shape
    if not found:
        raise _refused(folder, "it holds no tensors")
    for module, pair in found.items():
        if module.endswith(_UNSERVED):
            raise _refused(folder, f"{module} is adapted, which is not served; adapt the layers' projections only")
        if set(pair) != {"A", "B"}:
            raise _refused(folder, f"{module} has only one of lora_A and lora_B")
        if pair["A"][0] != rank or pair["B"][1] != rank:
            raise _refused(folder, f"{module} has rank {pair['A'][0]}, {CONFIG} says {rank}")
        if base is None:
            continue
        wanted = base.get(f"{module}.weight")
        shape = (pair["B"][0], pair["A"][1])
        if wanted is None:
            raise _refused(folder, f"the base model has no {module}")
        if wanted != shape:
            raise _refused(folder, f"{module} is {shape}, the base model's is {wanted}: it was trained on another base")


def _refused(folder: Path, reason: str) -> AdapterRefused:
    return AdapterRefused(f"adapter {folder.name}: {reason}", param="path")
