"""A real vLLM that stops while it rests: its processes and its port are gone, clients are told when to come, and its adapters come back."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from recollect.manifest import Manifest
from recollect.policy import Policy
from recollect.registry import CONFIG, WEIGHTS, Registry
from recollect.settings import EngineSettings
from server.engines.child import VllmChild
from server.engines.fingerprint import difference, fingerprint
from server.engines.vllm import VllmEngine
from tests.api.live import listening
from tests.contract.random_adapters import random_adapter

pytestmark = pytest.mark.engine
REST, WAKE = "/v1/admin/engine/rest", "/v1/admin/engine/wake"


async def publish(home: Path, engine: VllmChild, model: Path, folder: Path) -> Manifest:
    """Version 1 of `memory`, current."""
    random_adapter(folder, model)
    policy = Policy(base=engine.base, adapter="memory", version=1)
    await engine.load_adapter(policy, str(folder))
    found = await fingerprint(engine, policy)
    await engine.unload_adapter(policy)
    manifest = Manifest(
        policy="memory",
        version=1,
        parent=None,
        base=engine.base,
        run_id="r1",
        rank=4,
        alpha=8,
        target_modules=["o_proj"],
        fingerprint=found,
        sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
    )
    assert (folder / CONFIG).exists()
    Registry(home / "adapters").publish(folder, manifest)
    return manifest


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((urlsplit(url).hostname or "", urlsplit(url).port or 0)) == 0


async def test_it_stops_and_comes_back_as_it_was(engine: VllmChild, model_folder: Path, tmp_path: Path) -> None:
    manifest = await publish(tmp_path, engine, model_folder, tmp_path / "made")
    async with listening(tmp_path, engine) as served:
        body = {"model": "memory", "messages": [{"role": "user", "content": "Where does Ada live?"}], "temperature": 0, "max_tokens": 16}
        before = await served.ask("Where does Ada live?", **body)
        assert before["recollect"]["policies"] == {"memory": "memory@v1"}
        assert engine.pid is not None
        assert engine.url is not None
        url, keeper = engine.url, psutil.Process(engine.pid)
        processes = [keeper, *keeper.children(recursive=True)]
        assert listens(url)
        lain = await served.http.post(REST, json={"lease_s": 600, "reason": "training"})
        assert (lain.status_code, lain.json()["phase"], lain.json()["mode"]) == (200, "resting", "stop")
        assert not [process for process in processes if process.is_running()]
        assert not listens(url)
        refused = await served.http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "the engine rests (training)" in refused.json()["error"]["message"]
        woken = await served.http.post(WAKE, timeout=engine.settings.start_timeout_s)
        assert (woken.status_code, woken.json()["phase"]) == (200, "awake")
        assert engine.url == url
        policy = Policy(base=engine.base, adapter="memory", version=1)
        assert difference(manifest.fingerprint, await fingerprint(engine, policy)) is None
        after = await served.ask("Where does Ada live?", **body)
        assert after["recollect"]["policies"] == {"memory": "memory@v1"}
        [state] = [one for one in await served.service.adapters.list() if one.policy == "memory"]
        assert (state.serving, state.versions[0].refused) == ("memory@v1", None)


@pytest.mark.full
async def test_vllms_own_sleep_is_asked_for_as_it_wants_to_be(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU sleep frees nothing, and no flag for it is taken: what can be seen is what the routes want, say, and do to requests."""
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    child = VllmChild(EngineSettings(model=str(model_folder)), tmp_path)
    await child.start()
    try:
        await child.ready(600)
        assert child.url is not None
        engine = VllmEngine(child.url, rests="sleep")
        policy, folder = Policy(base=child.base, adapter="memory", version=1), random_adapter(tmp_path / "made", model_folder)
        await engine.load_adapter(policy, str(folder))
        before = await fingerprint(engine, policy)
        await engine.rest()
        asked = asyncio.create_task(fingerprint(engine, policy))
        assert (await engine.health()).ready  # it says so asleep, too
        assert not asked.done()
        await engine.wake()
        assert difference(before, await asked) is None
        await engine.wake()
        assert difference(before, await fingerprint(engine, policy)) is None
        await engine.close()
    finally:
        await child.close()
