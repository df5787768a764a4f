"""What a start must not wait for."""

from __future__ import annotations

import subprocess
import sys


def test_the_store_and_the_choice_of_embedder_import_nothing_heavy() -> None:
    code = (
        "import memory_store.store, memory_store.embedders.choose, memory_store.cli_eval, sys;"
        "print([m for m in ('lance', 'lancedb', 'pyarrow', 'pandas', 'torch', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


def test_reading_writing_and_embedding_import_no_torch() -> None:
    code = (
        "import memory_store.disk, memory_store.native, memory_store.embedders.onnx, memory_store.embedders.export, sys;"
        "print([m for m in ('torch', 'transformers', 'trl', 'vllm') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"
