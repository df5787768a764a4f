"""Requests to a chat endpoint and how long each took: by so many clients that wait for each answer, or so many a second, come what may."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
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


def asked(model: str, *, stream: bool, text: str = "How are you today?", **more: object) -> bytes:
    """The body of a request."""
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": model, "messages": messages, "stream": stream, **more}).encode()


async def closed_loop(url: str, body: bytes, *, clients: int, seconds: float, warm_up_s: float = 2.0) -> Load:
    """Each client asks again when it has been answered, for so many seconds after the warm-up. Raises RuntimeError for a failed request."""
    async with session() as http:
        await _clients(http, url, body, clients, warm_up_s)
        began = time.perf_counter()
        taken = await _clients(http, url, body, clients, seconds)
        return _load(taken, time.perf_counter() - began)


async def open_loop(url: str, body: bytes, *, rate: float, seconds: float, warm_up_s: float = 2.0) -> Load:
    """`rate` requests a second, whether or not earlier ones were answered. Raises RuntimeError for a failed request."""
    async with session() as http:
        await _paced(http, url, body, rate, warm_up_s)
        began = time.perf_counter()
        taken = await _paced(http, url, body, rate, seconds)
        return _load(taken, time.perf_counter() - began)


async def counted_loop(url: str, body: Callable[[int], bytes], *, clients: int, numbers: Iterable[int]) -> None:
    """Ask `body(number)` for each number, so many at once. Raises RuntimeError for a failed request."""
    left = iter(numbers)

    async def client() -> None:
        for number in left:
            await ask(http, url, body(number))

    async with session() as http:
        await asyncio.gather(*(client() for _ in range(clients)))


async def _clients(http: aiohttp.ClientSession, url: str, body: bytes, count: int, seconds: float) -> list[tuple[float, float]]:
    end = time.perf_counter() + seconds
    taken: list[tuple[float, float]] = []

    async def client() -> None:
        while time.perf_counter() < end:
            taken.append(await ask(http, url, body))

    await asyncio.gather(*(client() for _ in range(count)))
    return taken


async def _paced(http: aiohttp.ClientSession, url: str, body: bytes, rate: float, seconds: float) -> list[tuple[float, float]]:
    began, asking = time.perf_counter(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        asking.append(asyncio.create_task(ask(http, url, body)))
    return list(await asyncio.gather(*asking))


async def ask(http: aiohttp.ClientSession, url: str, body: bytes, *, mark: bytes = b"") -> tuple[float, float]:
    """Seconds to the end of the answer, and to the first of its pieces that holds `mark`. Raises RuntimeError for a failed request."""
    began, first = time.perf_counter(), 0.0
    async with http.post(url + PATH, data=body, headers=HEADERS) as answer:
        last = b""
        async for piece in answer.content.iter_any():
            if not first and mark in piece:
                first = time.perf_counter() - began
            last = (last + piece)[-400:]
        whole = b"[DONE]" in last if "event-stream" in answer.headers.get("content-type", "") else last.rstrip().endswith(b"}")
        if answer.status != 200 or not whole or not first:
            raise RuntimeError(f"{url} answered {answer.status} and ended with {last!r}")
    return time.perf_counter() - began, first


def session() -> aiohttp.ClientSession:
    """As many connections as are wanted."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


def _load(taken: list[tuple[float, float]], seconds: float) -> Load:
    both = np.array(taken)
    return Load(len(taken) / seconds, both[:, 0], both[:, 1])
