"""What coding agents put around a user's words, and that it is taken out without a word of the user's."""

from __future__ import annotations

import pytest

from recollect.client_notes import own_words


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("I use tabs.", "I use tabs."),
        ("<system-reminder>\nToday is Monday.\n</system-reminder>\nI use tabs.", "\nI use tabs."),
        ("<environment_context>\n<cwd>/x</cwd>\n</environment_context>", ""),
        ("<bash-stdout>secret</bash-stdout>I saw it.", "I saw it."),
        ("grep for `<system-reminder>` in src", "grep for `<system-reminder>` in src"),
        ("# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>\nbe brief\n</INSTRUCTIONS>", ""),
    ],
)
def test_own_words(text: str, own: str) -> None:
    assert own_words(text) == own


def test_it_takes_linear_time() -> None:
    text = "<system-reminder>" * 20_000
    assert own_words(text) == text
