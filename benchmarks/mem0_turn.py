"""A chat turn with memory, end to end, against mem0 OSS in front of the same model: when the user sees what, and what it costs.

A user with 1,000 memories says 61 new things, each answered in a stream and remembered before the next one; the first is told apart. The
model takes 200 ms a call, whatever is asked; both embed with the same MiniLM and show eight memories. mem0 lives in its client's process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np

from benchmarks.figure import Figure, p50_p95
from benchmarks.http_load import ask, asked, session
from benchmarks.memory_turn import fill
from benchmarks.peer import MEM0_CHAT, told
from benchmarks.scale import number, scaled
from benchmarks.sentences import questions, statements
from benchmarks.started import Started, recollect, started
from benchmarks.stub import WORDS
from memory_store.embedders.choose import choose
from memory_store.embedders.files import TOKENIZER
from recollect.settings import EmbedderSettings

MEMORIES, TURNS, SHOWN = 1_000, 60, 8
DELAY_S = 0.2
USER = "bench"
FIRST_WORD = WORDS[0].encode()


class Turn(NamedTuple):
    """Seconds from the question to the first word of the answer, to its end, and until what was said is remembered."""

    first: float
    answered: float
    remembered: float


class Chat(NamedTuple):
    """A contender's turns, the memories that they left, and what the model was asked meanwhile."""

    turns: list[Turn]
    kept: int
    spent: dict[str, dict[str, int]]


async def run() -> list[Figure]:
    """Ours as it comes, mem0, ours with a model that writes."""
    before, turns = statements(scaled(MEMORIES)), _turns(1 + scaled(TURNS, 4))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        embedder = await choose(EmbedderSettings(), folder)
        if embedder is None:
            return [Figure("a chat turn with memory", "not measured: no embedder can be had here (embedder.kind=auto)")]
        model_folder = folder / "embedders" / "minilm"
        async with started("-m", "benchmarks.model_stub", "{port}", str(DELAY_S), str(model_folder / TOKENIZER)) as model:
            figures += _told("Recollect, episodic", await _ours(folder / "episodic", model_folder, model, "episodic", before, turns))
            figures += _told(MEM0_CHAT.name, await _mem0(folder, model_folder, model, before, turns))
            figures += _told("Recollect, operations", await _ours(folder / "operations", model_folder, model, "operations", before, turns))
    return figures


async def _ours(home: Path, minilm: Path, model: Started, writing: str, before: list[str], turns: list[str]) -> Chat:
    settings = ("embedder.kind=onnx", f"embedder.model={minilm}", f"agents.writing={writing}", f"agents.retrieve={SHOWN}")
    embedder = await choose(EmbedderSettings(kind="onnx", model=str(minilm)), home)
    await fill(home, embedder, before, [USER])
    async with recollect(home, model.url, *settings) as server, session() as http, _spent(http, model) as spent:
        done = [await _turn(http, server.url, text) for text in turns]
        async with http.get(f"{server.url}/v1/memories/stats", params={"namespace": f"user/{USER}"}) as answer:
            kept = (await answer.json())["memories"] - len(before)
    return Chat(done, kept, spent)


async def _turn(http: aiohttp.ClientSession, url: str, text: str) -> Turn:
    began = time.perf_counter()
    answered, first = await ask(http, url, asked("memory", stream=True, text=text, user=USER), mark=FIRST_WORD)
    # A reading of memories waits for what is being written after an answer.
    async with http.get(f"{url}/v1/memories", params={"namespace": f"user/{USER}", "limit": "1"}) as answer:
        await answer.read()
    return Turn(first, answered, time.perf_counter() - began)


async def _mem0(folder: Path, minilm: Path, model: Started, before: list[str], turns: list[str]) -> Chat | str:
    said = json.dumps({"before": before, "turns": turns})
    await asyncio.to_thread((folder / "said.json").write_text, said, "utf-8")
    async with session() as http, _spent(http, model) as spent:
        job = {"url": model.url, "embedder": str(minilm), "user": USER, "limit": SHOWN}
        found = await told(MEM0_CHAT, folder, kind="chat", **job)
    if isinstance(found, str):
        return found
    return Chat([Turn(*times[:3]) for times in found["turns"]], found["kept"], spent)


@asynccontextmanager
async def _spent(http: aiohttp.ClientSession, model: Started) -> AsyncGenerator[dict[str, dict[str, int]]]:
    """Filled at the end of the block: calls, prompt and completion tokens during it, of answers and for memory."""

    async def counts() -> dict[str, dict[str, int]]:
        async with http.get(f"{model.url}/counts") as answer:
            return await answer.json()

    spent: dict[str, dict[str, int]] = {}
    earlier = await counts()
    yield spent
    later = await counts()
    spent.update({role: {what: later[role][what] - earlier[role][what] for what in later[role]} for role in later})


def _turns(count: int) -> list[str]:
    """Each tells something and asks something."""
    return [f"{told} {asking}" for told, asking in zip(statements(count, seed=1), questions(count, seed=1), strict=True)]


def _told(name: str, chat: Chat | str) -> list[Figure]:
    if isinstance(chat, str):
        return [Figure(name, chat)]
    count, (first, *_) = len(chat.turns), chat.turns
    print(f"  {name}: {count} turns", file=sys.stderr, flush=True)
    figures = [Figure(f"{name}, {number(count - 1)} turns, {what}", p50_p95(_column(chat, place))) for place, what in enumerate(WHAT)]
    figures.append(Figure(f"{name}, first turn after the start, to the first word", f"{first.first * 1e3:.0f} ms"))
    calls = {role: spent["calls"] / count for role, spent in chat.spent.items()}
    tokens = {role: (spent["prompt"] / count, spent["completion"] / count) for role, spent in chat.spent.items()}
    figures.append(Figure(f"{name}, model calls a turn", f"{sum(calls.values()):.2f}, of which for memory {calls['memory']:.2f}"))
    figures.append(Figure(f"{name}, tokens a turn, prompt + completion", _both([sum(part) for part in zip(*tokens.values(), strict=True)])))
    figures.append(Figure(f"{name}, of which for memory", _both(list(tokens["memory"]))))
    figures.append(Figure(f"{name}, memories kept of {number(count)} turns", number(chat.kept)))
    return figures


WHAT = ("to the first word", "to the end of the answer", "until it is remembered")


def _column(chat: Chat, place: int) -> np.ndarray:
    return np.array([turn[place] for turn in chat.turns[1:]])


def _both(tokens: list[Any]) -> str:
    return f"{tokens[0]:.0f} + {tokens[1]:.0f}"
