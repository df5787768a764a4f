"""The swap of the demo: promote the new version while requests stream, and prove that what answers now is that version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from recollect.errors import RecollectError
from recollect.policy import Policy
from recollect.registry import Registry
from server.engines.fingerprint import difference, fingerprint
from server.engines.vllm import VllmEngine
from trainer.demo.serving import Serving
from trainer.demo.users import stream_until
from trainer.environments.tasks import Task
from trainer.inputs import check_engine

WARM_UP_S = 3.0


class SwapFailed(RecollectError):
    """The swap did not happen, or something failed while it did."""


class Swap(NamedTuple):
    """What happened: requests that began before and after the flip, by the policy that answered; failures; the fingerprint."""

    version: str
    seconds: float
    requests: int
    failed: int
    by_policy: dict[str, int]
    stale: int
    fingerprint_equal: bool
    differs_from_base: bool

    def sentence(self) -> str:
        """One line for people."""
        answered = ", ".join(f"{count} by {policy}" for policy, count in self.by_policy.items())
        whose = "that of the new adapter" if self.fingerprint_equal else "WRONG"
        return (
            f"{self.version} was loaded, checked and made current in {self.seconds:.2f} s. {self.requests} streamed requests: {answered}; "
            f"{self.failed} failed, {self.stale} stale. The fingerprint is {whose}."
        )


async def promote_under_load(serving: Serving, home: Path, version: int, tasks: Sequence[Task]) -> Swap:
    """Promote `memory@v<version>` while six connections stream without a pause. Raises SwapFailed."""
    stop = asyncio.Event()
    load = asyncio.create_task(stream_until(serving.url, tasks, stop))
    clock = asyncio.get_running_loop().time
    try:
        await asyncio.sleep(WARM_UP_S)
        began = time.perf_counter()
        async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
            answer = await http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": version})
            if answer.status_code != 200:
                raise SwapFailed(f"swap: {answer.text}")
            await _serving(http, f"memory@v{version}")
        seconds = time.perf_counter() - began
        flipped = clock()
        await asyncio.sleep(WARM_UP_S)
    finally:
        stop.set()
        seen = await load
    name = f"memory@v{version}"
    by_policy: dict[str, int] = {}
    for one in seen:
        if one.error is None:
            by_policy[one.policy] = by_policy.get(one.policy, 0) + 1
    stale = sum(one.began > flipped and one.error is None and one.policy != name for one in seen)
    failed = [one.error for one in seen if one.error]
    equal, differs = await _fingerprints(serving, home, version)
    swap = Swap(name, seconds, len(seen), len(failed), by_policy, stale, equal, differs)
    if failed or stale or not equal:
        raise SwapFailed(f"swap: {swap.sentence()} {failed[:1]}")
    return swap


async def _serving(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Wait until new requests are answered by `name`."""
    for _ in range(300):
        states = (await http.get("/v1/admin/adapters")).json()["data"]
        found = next((s for s in states if s["serving"] == name), None)
        if found:
            return found
        refused = [v["refused"] for s in states for v in s["versions"] if v["name"] == name and v["refused"]]
        if refused:
            raise SwapFailed(f"swap: {name} was refused: {refused[0]}")
        await asyncio.sleep(0.1)
    raise SwapFailed(f"swap: {name} is not served after 30 s")


async def _fingerprints(serving: Serving, home: Path, version: int) -> tuple[bool, bool]:
    """Whether the engine's answers as the new policy are those of the manifest, and differ from the base model's."""
    manifest = Registry(home / "adapters").manifest("memory", version)
    engine = VllmEngine(serving.engine_url)
    await engine.start()
    try:
        await check_engine(engine)
        seen = await fingerprint(engine, Policy(base=engine.base, adapter="memory", version=version))
        base = await fingerprint(engine, Policy(base=engine.base))
    finally:
        await engine.close()
    return difference(manifest.fingerprint, seen) is None, difference(manifest.fingerprint, base) is not None
