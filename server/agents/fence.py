"""The fence around memories in a prompt: how it is recognised and taken out again, and how text inside is kept from closing it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from recollect.errors import ConfigurationError
from recollect.messages import Message
from server.agents.prompts import Prompt

_OPENING = re.compile(r"<([a-z][a-z0-9_-]*)>\n")
_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=/?s>)|<(?=/?think>)|<(?=(?:start|end)_of_turn>)|<(?=(?:bos|eos|pad|unk)>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])", re.I
)
"""Where a mark begins that some chat template gives a meaning to: a memory must not end its message."""


@dataclass(frozen=True, slots=True)
class Fence:
    """`<tag>` on the first line of the `answer` prompt and `</tag>` after its memories."""

    tag: str

    @classmethod
    def of(cls, prompt: Prompt) -> Fence:
        """The fence of an `answer` prompt. Raises ConfigurationError if the memories stand outside of one."""
        opening = _OPENING.match(prompt.user)
        if opening is None or prompt.system is not None or f"{{memories}}\n</{opening[1]}>\n" not in prompt.user:
            raise ConfigurationError(
                "an answer prompt has no system text and is <tag>, {memories} and </tag> on lines of their own, then {question}",
                param="agents.prompts",
            )
        return cls(opening[1])

    def clean(self, messages: Iterable[Message]) -> list[Message]:
        """The messages without fenced blocks that a client sent back."""
        return [m.model_copy(update={"content": self.strip(m.content)}) for m in messages]

    def strip(self, text: str) -> str:
        """The text without fenced blocks that hold memories; other uses of the tag stay. Linear in the length of the text."""
        opening, closing = f"<{self.tag}>\n", f"\n</{self.tag}>"
        *closed, rest = text.split(closing)
        kept: list[str] = []
        after_block = False
        for piece in closed:
            piece = piece.lstrip("\n") if after_block else piece
            start = piece.rfind(opening)
            after_block = start >= 0 and "\n[1] " in piece[start:]
            kept.append(piece[:start] if after_block else piece + closing)
        return "".join(kept) + (rest.lstrip("\n") if after_block else rest)

    def defuse(self, text: str) -> str:
        """The text with the fence's own tag and the marks of chat templates broken by a space."""
        tag = re.compile(rf"<(?=\s*/?\s*{self.tag}\b)", re.I)
        return _CONTROL.sub(lambda mark: f"{mark[0]} ", tag.sub("< ", text))
