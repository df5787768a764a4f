"""The files of an exported embedder: their names, and the check that they are whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from recollect.errors import ConfigurationError

MODEL, TOKENIZER, MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
MAX_TOKENS = 256


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export, after its files were checked. Raises ConfigurationError that names the bad file."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        hashes: dict[str, str] = manifest["files"]
        bad = [name for name, known in hashes.items() if file_sha256(folder / name) != known]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(f"the embedder in {folder} cannot be read ({exc}); delete the folder to export it again") from exc
    if bad:
        raise ConfigurationError(f"{folder / bad[0]} is damaged: its sha256 differs; delete {folder} to export it again")
    return manifest
