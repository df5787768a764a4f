"""Fixtures that every test may use: one real vLLM for the whole run, a scale for counts, a clean environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recollect.settings import SEED_MODEL, EngineSettings
from server.engines.child import VllmChild

SCALE = float(os.environ.get("RECOLLECT_TEST_SCALE", "1"))


def scaled(count: int) -> int:
    """A count of repetitions, scaled by RECOLLECT_TEST_SCALE; `make test-full` sets 20."""
    return max(1, round(count * SCALE))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith(("RECOLLECT_", "OPENAI_")) and name != "RECOLLECT_TEST_SCALE":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The seed model."""
    return SEED_MODEL


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmChild]:
    """vLLM, started once for all tests and ready. When it is closed, none of its processes may be left."""
    child = VllmChild(EngineSettings(model=str(model_folder), rest="stop"), tmp_path_factory.mktemp("engine"))
    await child.start()
    try:
        await child.ready(600)
        yield child
    finally:
        keeper = [psutil.Process(child.pid)] if child.pid else []
        processes = [*keeper, *(process for one in keeper for process in one.children(recursive=True))]
        await child.close()
        assert not [process for process in processes if process.is_running()]
