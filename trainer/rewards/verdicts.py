"""Verdicts of judges on disk: one small file each, named by a hash. They hold the label alone, no text of a user."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from trainer.rewards.judge_prompt import Label

VERDICTS = "judge"
"""The folder of a home that keeps what a judge said: labels under hashes, no text."""
_LABELS: tuple[Label, ...] = get_args(Label)


def key_of(model: str, prompt: str, texts: Sequence[str]) -> str:
    """sha256, in hex, of the model's name, the prompt and the texts; where one ends and the next begins counts too."""
    return hashlib.sha256(json.dumps([model, prompt, *texts]).encode()).hexdigest()


class Verdicts:
    """The verdicts under `folder`, which is made when the first one is kept. Several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Label | None:
        """The verdict kept under `key`; None if there is none that can be read."""
        try:
            kept = self._path(key).read_text("utf-8").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return next((label for label in _LABELS if label == kept), None)

    def put(self, key: str, label: Label) -> None:
        """Keep a verdict. Readers see the whole of it or nothing."""
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(label + "\n")
        os.replace(draft, path)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key
