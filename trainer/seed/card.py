"""The seed model's card: how it was built, what it can do, and the sha256 of every file, so that a copy can be checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recollect.errors import ConfigurationError
from trainer.seed.build import Recipe

MANIFEST = "manifest.json"
FILES = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TEXT = """# The seed model

A Qwen3-architecture causal LM of {parameters:,} parameters ({layers} layers, width {hidden}, vocabulary {vocabulary}, float32,
window 2,048), trained from scratch by `recollect seed build` on generated text. It exists so that the whole loop can be seen
turning on a laptop: it is not a useful model, and **its gain under training shows that the loop works, not what a real model gains**.

## Data

Only generated text (`trainer/seed/`): invented names, numbers and places drawn at random, so that every answer has to be
copied from the prompt. One in five values (by a hash of its text) is held out: evaluation asks only for those, training never
shows them. Skills: memory operations (ADD, UPDATE, DELETE, NOOP) from a user turn and the related old memories; extraction of
facts; short answers from memories with a citation `[i]`; recurrent reading ((question, section, memory) to a new memory;
(question, memory) to a boxed answer).

The supervision is of mixed quality on purpose, as web text is: the last {mixed_steps} of {steps} steps carry {mistakes:.0%} mistakes
(a memory dropped, a distractor stored, an update missed). The model can do the tasks, but not reliably: reinforcement learning
has something to select.

## Build

{tokens:,} tokens, {steps} steps, seed {seed}, {minutes} minutes on two CPU cores. `manifest.json` has the recipe and the sha256
of every file; `recollect seed check` compares. Bit-for-bit repetition needs the same torch build and processor.

## Figures

Exact match on {per_skill} held-out samples a skill:

| skill | greedy | sampled (T = 1) |
|---|---|---|
{rows}

Licence: that of this repository. No third-party text or weights are in it.
"""


def sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, recipe: Recipe, build: dict[str, Any], greedy: dict[str, float], sampled: dict[str, float], per_skill: int) -> None:
    """Write manifest.json and README.md beside the weights."""
    manifest = {
        "recipe": asdict(recipe),
        "build": build,
        "figures": {"greedy": greedy, "sampled": sampled, "per_skill": per_skill},
        "sha256": {name: sha256(folder / name) for name in FILES if (folder / name).exists()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    config = json.loads((folder / "config.json").read_text())
    rows = "\n".join(f"| {name} | {greedy[name]:.2f} | {sampled[name]:.2f} |" for name in greedy)
    text = TEXT.format(
        **asdict(recipe) | build,
        vocabulary=config["vocab_size"],
        minutes=round(build["seconds"] / 60),
        rows=rows,
        per_skill=per_skill,
    )
    (folder / "README.md").write_text(text)


def check(folder: Path) -> list[str]:
    """The files whose sha256 differs from the manifest's; empty if all is well. Raises ConfigurationError without a manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigurationError(f"no seed model at {folder}: run `recollect seed build`", param="engine.model")
    recorded: dict[str, str] = json.loads(path.read_text())["sha256"]
    return [name for name, digest in recorded.items() if not (folder / name).is_file() or sha256(folder / name) != digest]
