"""What of a completion is carried on as memory: its end tokens and what was thought before it are left behind."""

from __future__ import annotations

from collections.abc import Sequence

from server.engines.base import Completion, Engine

OPEN, CLOSE = "<think>", "</think>"


async def carried_ids(completion: Completion, engine: Engine, texts: dict[int, str], *, opened: bool) -> list[int] | None:
    """The ids of a new memory, each as it was sampled; None if a thought was begun and never ended, so that nothing was written.

    `texts` keeps the text of single ids between calls. `opened`: the prompt itself began the thought. Where a tokenizer joins
    the closing tag with its neighbours, so that no ids can be told apart, the thought stays in.
    """
    ids = await _without_end(completion, engine, texts)
    if opened or completion.text.lstrip().startswith(OPEN):
        if CLOSE not in completion.text:
            return None
        end = _end_of(ids, await engine.encode(CLOSE))
        ids = ids[end:]
        while end and ids and not (await text_of(ids[0], engine, texts)).strip():
            ids = ids[1:]
    return ids


def carried_text(text: str, *, opened: bool = False) -> str | None:
    """The same for engines that give no ids."""
    if CLOSE in text:
        return text.rpartition(CLOSE)[2].strip()
    return None if opened or text.lstrip().startswith(OPEN) else text.strip()


async def _without_end(completion: Completion, engine: Engine, texts: dict[int, str]) -> list[int]:
    """The sampled ids without the token that ended the turn: it is no part of the completion's text."""
    ids = list(completion.token_ids or ())
    if ids and completion.finish_reason == "stop":
        last = await text_of(ids[-1], engine, texts)
        if last and "\ufffd" not in last and not completion.text.endswith(last):
            ids.pop()
    return ids


async def text_of(token: int, engine: Engine, texts: dict[int, str]) -> str:
    """The text of one id, asked for once."""
    if token not in texts:
        texts[token] = await engine.decode([token])
    return texts[token]


def _end_of(ids: Sequence[int], part: Sequence[int]) -> int:
    """Where the last occurrence of `part` in `ids` ends; 0 if there is none."""
    starts = range(len(ids) - len(part), -1, -1)
    return next((i + len(part) for i in starts if list(ids[i : i + len(part)]) == list(part)), 0)
