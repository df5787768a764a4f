"""Prompt packs: a folder of YAML files, one prompt each. `compact` is for small models, `default` for real ones.

A prompt is a template for the user message and, optionally, a system message. Fields are named `{like_this}`;
literal braces are doubled. Values are inserted once and never interpreted.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal

from pydantic import BaseModel, ConfigDict

from recollect.errors import ConfigurationError
from recollect.messages import Message
from recollect.yaml_text import NotYaml, read_yaml

PACKS = Path(__file__).parent


class Prompt(BaseModel):
    """One prompt of a pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    system: str | None = None
    format: Literal["text", "lines", "json", "boxed"] = "text"
    empty_memory: str = ""
    marker: str = ""
    """What stands between what the model notes for itself and its answer."""

    @property
    def fields(self) -> list[str]:
        """The names of its fields, in their order."""
        return [name for _, name, _, _ in Formatter().parse(self.user) if name is not None]

    def render(self, **fields: str) -> list[Message]:
        """The messages of this prompt with `fields` filled in. Raises KeyError for a missing field."""
        rendered = [Message(role="user", content=self.user.format(**fields))]
        if self.system is None:
            return rendered
        return [Message(role="system", content=self.system), *rendered]


@cache
def load_prompt(pack: str, name: str) -> Prompt:
    """Read one prompt of a pack: one of ours by its name, or a folder by its path. Raises ConfigurationError if it is not there or no
    YAML."""
    path = (Path(pack) if os.sep in pack else PACKS / pack) / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in PACKS.iterdir() if p.is_dir() and not p.name.startswith("_")))
        raise ConfigurationError(f"prompt pack {pack!r} has no prompt {name!r}; known packs: {known}", param="prompts")
    try:
        return Prompt.model_validate(read_yaml(path))
    except NotYaml as exc:
        raise ConfigurationError(f"the prompt in {path} {exc}", param="prompts") from exc
