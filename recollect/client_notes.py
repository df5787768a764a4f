"""What coding agents put into a user's turn by themselves: the model reads it, but it is nothing that the user said."""

from __future__ import annotations

import re

NOTES = (
    "system-reminder",
    "local-command-caveat",
    "environment_context",
    "user_instructions",
    "permissions instructions",
    "collaboration_mode",
    "skills_instructions",
    "turn_aborted",
)
"""The tags around it, of Claude Code and Codex."""
_NOTE = re.compile("|".join(rf"<{tag}>.*?(?:</{tag}>|\Z)" for tag in NOTES), re.S)
_INSTRUCTIONS = re.compile(r"\A# AGENTS\.md instructions\b.*?</INSTRUCTIONS>", re.S)


def own_words(text: str) -> str:
    """What the user said, without the notes of a client around it."""
    if "<" not in text:
        return text
    return _INSTRUCTIONS.sub("", _NOTE.sub("", text)) if _NOTE.search(text) or _INSTRUCTIONS.search(text) else text
