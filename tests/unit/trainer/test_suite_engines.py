"""Which engine an evaluation uses, and what it loads into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from one_version import publish

from recollect.errors import AdapterRefused, ConfigurationError, EngineUnavailable
from recollect.registry import WEIGHTS
from recollect.settings import Settings
from recollect.settings_read import load
from server.engines.base import Engine
from server.engines.scripted import ScriptedEngine, Trouble
from trainer.suites import engines


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(None, [f"home={tmp_path}", "engine.start_timeout_s=0"], {})


def running(home: Path, pid: int) -> None:
    """What a server writes into its home."""
    (home / "server.json").write_text(json.dumps({"pid": pid, "engine_url": "http://127.0.0.1:9"}))


async def opened(settings: Settings, url: str | None = None) -> Engine:
    async with engines.opened_engine(settings, url) as engine:
        return engine


async def test_an_engine_that_is_started_is_closed_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedEngine()
    monkeypatch.setattr(engines, "open_engine", lambda *_, **__: scripted)
    assert await opened(settings) is scripted
    assert scripted.closed


async def test_one_that_does_not_become_ready_is_an_error_and_is_closed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedEngine(trouble=Trouble(unhealthy="weights are missing"))
    monkeypatch.setattr(engines, "open_engine", lambda *_, **__: scripted)
    with pytest.raises(EngineUnavailable, match="weights are missing"):
        await opened(settings)
    assert scripted.closed


async def test_the_running_servers_engine_is_used_and_a_dead_servers_is_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    scripted = ScriptedEngine()

    def attached(url: str, **_: object) -> Engine:
        asked.append(url)
        return scripted

    monkeypatch.setattr(engines, "VllmEngine", attached)
    monkeypatch.setattr(engines, "open_engine", lambda *_, **__: ScriptedEngine(base="started"))
    running(tmp_path, os.getpid())
    assert await opened(settings) is scripted
    assert asked == ["http://127.0.0.1:9"]
    assert await opened(settings, "http://127.0.0.1:10") is scripted
    assert asked[-1] == "http://127.0.0.1:10"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)  # noqa: ASYNC221
    running(tmp_path, int(ended.stdout))
    assert (await opened(settings)).base == "started"


async def test_a_url_is_attached_to_as_vllm(settings: Settings) -> None:
    with pytest.raises(EngineUnavailable, match="not ready"):
        await opened(settings, "http://127.0.0.1:9")


async def test_settings_without_an_engine_name_the_setting(settings: Settings) -> None:
    none = settings.model_copy(update={"engine": settings.engine.model_copy(update={"kind": "none"})})
    with pytest.raises(ConfigurationError, match="--engine-url"):
        await opened(none)


async def test_a_version_that_the_server_serves_stays_loaded(tmp_path: Path) -> None:
    registry, scripted = publish(tmp_path), ScriptedEngine(adapters={"memory@v1": "the server's"})
    async with engines.loaded(scripted, ["base", "memory@v1"], registry) as found:
        assert found["base"].name == "scripted"
        assert set(scripted.adapters) == {"memory@v1", found["memory@v1"].name}
        assert found["memory@v1"].name != "memory@v1"
    assert scripted.adapters == {"memory@v1": "the server's"}


async def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    registry = publish(tmp_path)
    file = registry.path("memory", 1) / WEIGHTS
    file.chmod(0o600)
    file.write_bytes(b"others")
    scripted = ScriptedEngine()
    with pytest.raises(AdapterRefused):
        async with engines.loaded(scripted, ["memory@v1"], registry):
            pass
    assert scripted.adapters == {}


def test_the_command_line_loads_neither_torch_nor_plots() -> None:
    heavy = "('torch', 'trl', 'matplotlib', 'fastapi')"
    code = f"import sys, trainer.cli_eval, trainer.suites.command; print(*[m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""
