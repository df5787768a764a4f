"""Requests to a chat endpoint and how long each took: by so many clients that wait for each answer, or so many a second, come what may."""

from __future__ import annotations

import asyncio
import json
import time
from typing import NamedTuple

import aiohttp
import numpy as np

PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json"}


class Load(NamedTuple):
    """Answers a second, the seconds of each, and those to its first byte."""

    rate: float
    seconds: np.ndarray
    first: np.ndarray


def asked(model: str, *, stream: bool, **more: object) -> bytes:
    """The body of a request."""
    messages = [{"role": "user", "content": "How are you today?"}]
    return json.dumps({"model": model, "messages": messages, "stream": stream, **more}).encode()


async def closed_loop(url: str, body: bytes, *, clients: int, seconds: float, warm_up_s: float = 2.0) -> Load:
    """Each client asks again when it has been answered, for so many seconds after the warm-up. Raises RuntimeError for a failed request."""
    async with _session() as session:
        await _clients(session, url, body, clients, warm_up_s)
        began = time.perf_counter()
        taken = await _clients(session, url, body, clients, seconds)
        return _load(taken, time.perf_counter() - began)


async def open_loop(url: str, body: bytes, *, rate: float, seconds: float, warm_up_s: float = 2.0) -> Load:
    """`rate` requests a second, whether or not earlier ones were answered. Raises RuntimeError for a failed request."""
    async with _session() as session:
        await _paced(session, url, body, rate, warm_up_s)
        began = time.perf_counter()
        taken = await _paced(session, url, body, rate, seconds)
        return _load(taken, time.perf_counter() - began)


async def _clients(session: aiohttp.ClientSession, url: str, body: bytes, count: int, seconds: float) -> list[tuple[float, float]]:
    end = time.perf_counter() + seconds
    taken: list[tuple[float, float]] = []

    async def client() -> None:
        while time.perf_counter() < end:
            taken.append(await _ask(session, url, body))

    await asyncio.gather(*(client() for _ in range(count)))
    return taken


async def _paced(session: aiohttp.ClientSession, url: str, body: bytes, rate: float, seconds: float) -> list[tuple[float, float]]:
    began, asking = time.perf_counter(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        asking.append(asyncio.create_task(_ask(session, url, body)))
    return list(await asyncio.gather(*asking))


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[float, float]:
    began, first = time.perf_counter(), 0.0
    async with session.post(url + PATH, data=body, headers=HEADERS) as answer:
        last = b""
        async for piece in answer.content.iter_any():
            first = first or time.perf_counter() - began
            last = (last + piece)[-64:]
        whole = b"[DONE]" in last if "event-stream" in answer.headers.get("content-type", "") else last.rstrip().endswith(b"}")
        if answer.status != 200 or not whole:
            raise RuntimeError(f"{url} answered {answer.status} and ended with {last!r}")
    return time.perf_counter() - began, first


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


def _load(taken: list[tuple[float, float]], seconds: float) -> Load:
    both = np.array(taken)
    return Load(len(taken) / seconds, both[:, 0], both[:, 1])
