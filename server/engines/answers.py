"""From the JSON answers of an OpenAI-compatible server to chunks: whole bodies and streams, chats and completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any
from uuid import uuid4

from recollect.errors import EngineError, EngineUnavailable
from recollect.trajectory import Usage
from server.engines.base import CallPiece, Chunk

Json = dict[str, Any]
MAX_TOKENS = 10**9
"""Of one call. What a server counts is charged to somebody."""


def whole(body: Json, *, exact: bool, n: int, told: bool = False) -> list[Chunk]:
    """One chunk a choice of an answer without streaming, by index; `usage` on the last.

    `told`: keep the log-probabilities in OpenAI's form too.
    """
    with UNDERSTOOD:
        choices = sorted(body.get("choices") or (), key=lambda choice: choice["index"])
        if not choices or (exact and len(choices) != n):
            raise EngineError(f"{n} choices were asked for, the engine answered {len(choices)}")
        chunks = [_chunk(choice, body, choice.get("message"), exact=exact, told=told) for choice in choices]
        usage = _usage(body)
    if unfinished := [chunk.index for chunk in chunks if chunk.finish_reason is None]:
        raise EngineError(f"choices {unfinished} came without a finish reason")
    chunks[-1] = replace(chunks[-1], usage=usage)
    return chunks


async def pieces(events: AsyncGenerator[Json], *, exact: bool, n: int, told: bool = False) -> AsyncGenerator[Chunk]:
    """The chunks of a stream, as they come; `usage` on the last of all.

    A chunk that finishes a choice is kept back until the next event, which says whether it was the last. Raises
    EngineError if a choice has not finished when the stream ends.
    """
    prompts: dict[int, tuple[int, ...]] = {}
    finished: set[int] = set()
    seen: set[int] = set()
    numbers: dict[int, CallNumbers] = {}
    last: Chunk | None = None
    usage: Usage | None = None
    async with aclosing(events):
        async for event in events:
            with UNDERSTOOD:
                usage = _usage(event) or usage
                choices: list[Json] = list(event.get("choices") or ())
            for choice in choices:
                if last is not None:
                    yield last
                    last = None
                with UNDERSTOOD:
                    delta: Json | None = choice.get("delta")
                    opening = delta is not None and "role" in delta and not choice.get("token_ids")
                    known = numbers.setdefault(choice["index"], CallNumbers())
                    chunk = _chunk(choice, event, delta, exact=exact and not opening, told=told and not opening, numbers=known)
                seen.add(chunk.index)
                if chunk.prompt_ids is not None:
                    prompts[chunk.index] = chunk.prompt_ids
                if not (chunk.text or chunk.reasoning or chunk.calls or chunk.token_ids) and chunk.finish_reason is None:
                    continue
                if exact:
                    chunk = replace(chunk, prompt_ids=prompts.pop(chunk.index, None))
                if chunk.finish_reason is None:
                    yield chunk
                else:
                    finished.add(chunk.index)
                    last = chunk
    if last is None or finished != (set(range(n)) if exact else seen):
        raise EngineError(f"the stream ended, but only {len(finished)} of {n} choices had finished")
    yield replace(last, usage=usage)


class _Understood:
    """JSON of another form than OpenAI's is the engine's error, told without what it holds. A class: it is entered for every chunk."""

    __slots__ = ()

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(exc, AttributeError | IndexError | KeyError | TypeError | ValueError):
            raise EngineError(f"the engine answered JSON of another form than OpenAI's API has ({type(exc).__name__})") from exc


UNDERSTOOD = _Understood()


def _chunk(choice: Json, body: Json, message: Json | None, *, exact: bool, told: bool, numbers: CallNumbers | None = None) -> Chunk:
    text = choice.get("text") if message is None else message.get("content")
    if text is not None and not isinstance(text, str):
        raise TypeError("content is no text")
    if not isinstance(finish_reason := choice.get("finish_reason"), str | None):
        raise TypeError("finish_reason is no text")
    prompt_ids = choice.get("prompt_token_ids") or body.get("prompt_token_ids")
    ids, logprobs = _tokens(choice) if exact else (None, None)
    if choice.get("finish_reason") in ("abort", "error"):
        raise EngineUnavailable("the engine gave the request up before its end")
    return Chunk(
        index=choice["index"],
        text=text or "",
        reasoning=_reasoning(message or {}),
        calls=_calls((message or {}).get("tool_calls"), numbers),
        told=_told(choice) if told else (),
        token_ids=ids,
        logprobs=logprobs,
        prompt_ids=tuple(prompt_ids) if prompt_ids else None,
        finish_reason=finish_reason,
        stopped_by=stopped_by if isinstance(stopped_by := choice.get("stop_reason"), str) else None,
    )


def _reasoning(message: Json) -> str:
    """By one of its two names; some servers send both. Of another form than text it is nobody's answer, and left out."""
    found = (message.get("reasoning_content"), message.get("reasoning"))
    return next((text for text in found if isinstance(text, str) and text), "")


def _calls(found: list[Json] | None, numbers: CallNumbers | None = None) -> tuple[CallPiece, ...]:
    """Of a whole answer, calls are counted; of a stream, `numbers` tells which one a piece belongs to."""
    calls: list[CallPiece] = []
    for position, call in enumerate(found or ()):
        function: Json = call.get("function") or {}
        known, name, arguments = call.get("id"), function.get("name"), function.get("arguments") or ""
        if isinstance(arguments, dict):  # some servers send the object itself
            arguments = json.dumps(arguments)
        if not all(isinstance(value, str | None) for value in (known, name, arguments)):
            raise TypeError("a tool call of another form")
        number, begins = (position, True) if numbers is None else numbers.of(call.get("index") or 0, known)
        identity = (known or f"call_{uuid4().hex[:24]}") if begins else None
        calls.append(CallPiece(number, identity, name if begins else None, arguments))
    return tuple(calls)


class CallNumbers:
    """Which call of its choice a piece belongs to: some servers give all calls the index 0, or leave ids out."""

    def __init__(self) -> None:
        self._ids: list[str | None] = []
        self._at: dict[int, int] = {}
        """The call that an index of the server means now."""

    def of(self, index: int, call_id: str | None) -> tuple[int, bool]:
        """The call's number from 0, and whether this piece is its first."""
        number = self._at.get(index)
        if number is not None and call_id in (None, "", self._ids[number]):
            return number, False
        self._ids.append(call_id)
        self._at[index] = len(self._ids) - 1
        return len(self._ids) - 1, True


def _told(choice: Json) -> tuple[Json, ...]:
    found: Json = choice.get("logprobs") or {}
    entries: list[Json] = found.get("content") or []
    return tuple({**_entry(entry), "top_logprobs": _alternatives(entry)} for entry in entries)


def _alternatives(entry: Json) -> list[Json]:
    others: list[Json] = entry.get("top_logprobs") or []
    return [_entry(other) for other in others]


def _entry(entry: Json) -> Json:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry.get("bytes")}


def _tokens(choice: Json) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Ids and log-probabilities of a piece, one to one."""
    ids: list[int] | None = choice.get("token_ids")
    found: Json | None = choice.get("logprobs")
    if ids is None or (found is None and ids):
        raise EngineError("the engine gave no token ids or no log-probabilities; for a server that is not vLLM set engine.kind=openai")
    if found is None:
        return (), ()
    logprobs: list[float | None] = (
        found["token_logprobs"] if "token_logprobs" in found else [entry["logprob"] for entry in found["content"] or ()]
    )
    known = tuple(value for value in logprobs if value is not None)
    if len(ids) != len(known):
        raise EngineError(f"the engine gave {len(ids)} token ids and {len(known)} log-probabilities")
    return tuple(ids), known


def _usage(body: Json) -> Usage | None:
    counts = body.get("usage")
    if not counts:
        return None
    usage = Usage(prompt_tokens=counts.get("prompt_tokens") or 0, completion_tokens=counts.get("completion_tokens") or 0)
    if not all(0 <= count <= MAX_TOKENS for count in (usage.prompt_tokens, usage.completion_tokens)):
        raise ValueError("token counts beyond any measure")
    return usage
