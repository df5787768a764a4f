"""Prompt packs: a folder of YAML files, one prompt each. `compact` is for small models, `default` for real ones.

A prompt is a template for the user message and, optionally, a system message. Fields are named `{like_this}`;
literal braces are doubled. Values are inserted once and never interpreted.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from recollect.errors import ConfigurationError
from recollect.messages import Message

PACKS = Path(__file__).parent
PromptName = Literal[
    "operations", "extract", "answer", "read_section", "read_answer", "rmm_answer", "rmm_topics", "rmm_merge", "rmm_rerank"
]


class Prompt(BaseModel):
    """One prompt of a pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    system: str | None = None
    format: Literal["text", "lines", "json", "boxed"] = "text"
    empty_memory: str = ""

    def render(self, **fields: str) -> list[Message]:
        """The messages of this prompt with `fields` filled in. Raises KeyError for a missing field."""
        rendered = [Message(role="user", content=self.user.format(**fields))]
        if self.system is None:
            return rendered
        return [Message(role="system", content=self.system), *rendered]


@cache
def load_prompt(pack: str, name: PromptName) -> Prompt:
    """Read one prompt of the pack called `pack`. Raises ConfigurationError for an unknown pack."""
    path = PACKS / pack / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in PACKS.iterdir() if p.is_dir() and not p.name.startswith("_")))
        raise ConfigurationError(f"prompt pack {pack!r} has no prompt {name!r}; known packs: {known}", param="prompts")
    return Prompt.model_validate(yaml.safe_load(path.read_text("utf-8")))
