"""What coding agents put into a user's turn by themselves: the model reads it, but it is nothing that the user said."""

from __future__ import annotations

import re

NOTES = (
    "system-reminder",
    "local-command-caveat",
    "local-command-stdout",
    "local-command-stderr",
    "bash-stdout",
    "bash-stderr",
    "command-name",
    "command-message",
    "environment_context",
    "user_instructions",
    "permissions instructions",
    "collaboration_mode",
    "skills_instructions",
    "turn_aborted",
)
"""The tags around it, of Claude Code and Codex."""
_INSTRUCTIONS = re.compile(r"\A# AGENTS\.md instructions\b.*?</INSTRUCTIONS>", re.S)


def own_words(text: str) -> str:
    """What the user said, without the notes of a client around it. Linear in the length of the text."""
    if "<" not in text:
        return text
    for tag in NOTES:
        text = _without(text, f"<{tag}>", f"</{tag}>")
    return _INSTRUCTIONS.sub("", text)


def _without(text: str, opening: str, closing: str) -> str:
    kept: list[str] = []
    at = 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join([*kept, text[at:]])
