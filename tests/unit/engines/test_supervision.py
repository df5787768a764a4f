"""The supervision of a child engine, with a fake engine that starts in an instant."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from engine_stub import __file__ as STUB
from safetensors.numpy import save_file

from recollect.errors import EngineUnavailable, NotFound
from recollect.policy import Policy
from recollect.settings import EngineSettings
from server.engines import child as child_module
from server.engines import vllm_command
from server.engines.base import Sampling, collect
from server.engines.child import VllmChild

POLICY = Policy(base="model", adapter="memory", version=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"w.weight": np.zeros((8, 6), np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {
        "base_model.model.w.lora_A.weight": np.ones((4, 6), np.float32),
        "base_model.model.w.lora_B.weight": np.ones((8, 4), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
    return folder


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = vllm_command.command
    monkeypatch.setattr(vllm_command, "check", lambda settings: None)
    monkeypatch.setattr(vllm_command, "command", lambda settings, port: [sys.executable, STUB, *real(settings, port)[3:]])
    monkeypatch.setattr(child_module, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(child_module, "WATCH_S", 0.2)


@pytest.fixture
async def engine(model: Path, tmp_path: Path) -> AsyncIterator[VllmChild]:
    supervised = VllmChild(EngineSettings(model=str(model)), tmp_path / "logs")
    yield supervised
    await supervised.close()


async def complete(engine: VllmChild, policy: Policy = Policy(base="model")) -> str:
    return (await collect(engine.complete([1, 2], policy=policy, sampling=Sampling())))[0].text


async def down(engine: VllmChild) -> None:
    async with asyncio.timeout(20):
        while engine.url is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_starts_tells_its_progress_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    engine = VllmChild(EngineSettings(model=str(model)), tmp_path / "logs", told.append)
    with pytest.raises(EngineUnavailable, match="not started"):
        await complete(engine)
    await engine.start()
    with pytest.raises(EngineUnavailable) as early:
        await engine.encode("x")
    assert early.value.retry_after_s >= 1
    await engine.ready(30)
    assert await complete(engine) == "Hello"
    assert (engine.base, engine.window) == ("model", 64)
    assert [sentence.split(" after")[0] for sentence in told][1:] == ["architecture StubForCausalLM", "loading weights", "ready"]
    assert (await engine.health()).ready
    assert engine.pid is not None
    processes = psutil.Process(engine.pid).children(recursive=True)
    assert len(processes) == 2
    await engine.close()
    assert not [process for process in processes if process.is_running()]
    assert engine.url is None
    assert not (await engine.health()).ready


async def test_a_killed_engine_comes_back_at_its_address_with_its_adapters(engine: VllmChild, adapter: Path) -> None:
    await engine.start()
    await engine.ready(30)
    url = engine.url
    await engine.load_adapter(POLICY, str(adapter))
    assert await complete(engine, POLICY) == "Hello"
    assert engine.pid is not None
    psutil.Process(engine.pid).children()[0].kill()
    await down(engine)
    with pytest.raises(EngineUnavailable, match="not ready") as refused:
        await complete(engine)
    assert 1 <= refused.value.retry_after_s <= 120
    await engine.ready(30)
    assert engine.url == url
    assert await complete(engine, POLICY) == "Hello"
    await engine.unload_adapter(POLICY)
    with pytest.raises(NotFound):
        await complete(engine, POLICY)


async def test_an_adapter_whose_folder_is_gone_does_not_keep_the_engine_down(engine: VllmChild, adapter: Path) -> None:
    await engine.start()
    await engine.ready(30)
    await engine.load_adapter(POLICY, str(adapter))
    (adapter / "adapter_model.safetensors").unlink()
    assert engine.pid is not None
    psutil.Process(engine.pid).children()[0].kill()
    await down(engine)
    await engine.ready(30)
    assert await complete(engine) == "Hello"
    with pytest.raises(NotFound):
        await complete(engine, POLICY)


async def test_a_start_that_fails_says_why_and_is_tried_again_later_and_later(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAILS", "1")
    told: list[str] = []
    engine = VllmChild(EngineSettings(model=str(model)), tmp_path / "logs", told.append)
    await engine.start()
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="made of cheese"):
            await engine.ready(30)
    assert "starting it again in" in told[-1]
    assert "engine.log" in told[-1]
    assert not (await engine.health()).ready
    monkeypatch.delenv("STUB_FAILS")
    await _until_ready(engine)
    assert await complete(engine) == "Hello"
    await engine.close()


async def test_a_start_that_takes_too_long_is_given_up(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_command, "command", lambda settings, port: [sys.executable, "-c", "import time; time.sleep(600)"])
    engine = VllmChild(EngineSettings(model=str(model), start_timeout_s=0.3), tmp_path / "logs")
    await engine.start()
    with pytest.raises(EngineUnavailable, match="start_timeout_s"):
        await engine.ready(30)
    await engine.close()


async def test_an_engine_that_answers_nothing_any_more_is_restarted(engine: VllmChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "STALLED_S", 0.2)
    monkeypatch.setattr("server.engines.vllm.PULSE_TIMEOUT_S", 0.2)
    monkeypatch.setenv("STUB_HANGS", "1")
    await engine.start()
    await engine.ready(30)
    assert engine.pid is not None
    first = engine.pid
    monkeypatch.delenv("STUB_HANGS")
    with pytest.raises(EngineUnavailable):
        await complete(engine)
    await down(engine)
    await engine.ready(30)
    assert engine.pid != first
    assert await complete(engine) == "Hello"


async def test_one_that_stops_leaves_no_process_and_comes_back_with_its_adapters(model: Path, tmp_path: Path, adapter: Path) -> None:
    engine = VllmChild(EngineSettings(model=str(model), rest="stop"), tmp_path / "logs")
    await engine.start()
    await engine.ready(30)
    await engine.load_adapter(POLICY, str(adapter))
    assert engine.pid is not None
    url, keeper = engine.url, psutil.Process(engine.pid)
    processes = [keeper, *keeper.children(recursive=True)]
    await engine.rest()
    assert not [process for process in processes if process.is_running()]
    assert (await engine.health()).detail == "it rests"
    with pytest.raises(EngineUnavailable, match="not ready: it rests"):
        await complete(engine)
    await engine.wake()
    await engine.ready(30)
    assert engine.url == url
    assert await complete(engine, POLICY) == "Hello"
    await engine.close()


async def test_one_that_sleeps_is_the_same_process_awake(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "STALLED_S", 0.0)
    monkeypatch.setattr("server.engines.vllm.PULSE_TIMEOUT_S", 0.2)
    engine = VllmChild(EngineSettings(model=str(model), rest="sleep"), tmp_path / "logs")
    await engine.start()
    with pytest.raises(EngineUnavailable):
        await engine.rest()  # it is no engine yet that could sleep
    await engine.ready(30)
    first = engine.pid
    await engine.rest()
    asked = asyncio.create_task(complete(engine))
    for _ in range(3):  # of its supervisor's looks: what waits for it to wake up is no sign that it is ill
        await asyncio.sleep(child_module.WATCH_S)
    assert not asked.done()
    await engine.wake()
    assert await asked == "Hello"
    assert engine.pid == first
    await engine.close()


async def test_one_that_dies_asleep_is_started_again_when_it_is_woken(model: Path, tmp_path: Path) -> None:
    engine = VllmChild(EngineSettings(model=str(model), rest="sleep"), tmp_path / "logs")
    await engine.start()
    await engine.ready(30)
    await engine.rest()
    assert engine.pid is not None
    first = engine.pid
    psutil.Process(first).children()[0].kill()
    await down(engine)
    async with asyncio.timeout(20):
        while "starting it again" not in (await engine.health()).detail:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(2 * child_module.FIRST_BACKOFF_S)
    assert engine.pid is None
    await engine.wake()
    await engine.ready(30)
    assert engine.pid not in (None, first)
    assert await complete(engine) == "Hello"
    await engine.close()


async def test_one_that_cannot_be_woken_is_replaced(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_SLEEPS_ON", "1")
    engine = VllmChild(EngineSettings(model=str(model), rest="sleep"), tmp_path / "logs")
    await engine.start()
    await engine.ready(30)
    first = engine.pid
    await engine.rest()
    await engine.wake()
    await engine.ready(30)
    assert engine.pid not in (None, first)
    assert await complete(engine) == "Hello"
    await engine.close()


async def test_closing_does_not_wait_for_a_start(model: Path, tmp_path: Path) -> None:
    engine = VllmChild(EngineSettings(model=str(model)), tmp_path / "logs")
    await engine.start()
    began = time.monotonic()
    await engine.close()
    await engine.close()
    assert time.monotonic() - began < 12


async def _until_ready(engine: VllmChild) -> None:
    async with asyncio.timeout(60):
        while engine.url is None:
            try:
                await engine.ready(30)
            except EngineUnavailable:
                continue
