"""Pieces of a text: passages to search in, and what is left of one that is too long."""

from __future__ import annotations


def passages(text: str, size: int) -> list[str]:
    """The text in pieces of at most `size` characters, cut at white space where there is some; nothing but white space is lost."""
    found: list[str] = []
    rest = text.strip()
    while len(rest) > size:
        space = max(rest.rfind(mark, 1, size + 1) for mark in (" ", "\n"))
        cut = space if space > 0 else size
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*found, rest] if rest else found


def without_middle(text: str, share: float) -> str:
    """Head and tail of the text, together at most `share` of it and always shorter than it was."""
    keep = int(len(text) * min(share, 0.95)) // 2
    return text[:keep] + text[len(text) - keep :]
