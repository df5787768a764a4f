"""Which engines a trainer reaches without being told: those of the server that runs on the home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recollect.errors import ConfigurationError
from recollect.settings_read import load
from server.engines.pool import EnginePool
from server.engines.vllm import VllmEngine
from trainer.running_engine import running_engine

ONE, OTHER = "http://127.0.0.1:9", "http://127.0.0.1:10"


def _engines(home: Path, *given: str) -> list[str]:
    engine = running_engine(load(None, [f"home={home}"], {}), given)
    engines = engine.engines if isinstance(engine, EnginePool) else (engine,)
    assert all(isinstance(one, VllmEngine) for one in engines)
    return [one.url for one in engines if isinstance(one, VllmEngine)]


@pytest.mark.parametrize("urls", [[ONE], [ONE, OTHER]])
def test_all_engines_of_the_server_are_taken(tmp_path: Path, urls: list[str]) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1, "engine_url": urls[0], "engine_urls": urls}))
    assert _engines(tmp_path) == urls
    assert _engines(tmp_path, OTHER) == [OTHER]


@pytest.mark.parametrize("content", [None, "{", json.dumps({"pid": 1, "engine_url": None, "engine_urls": []})])
def test_without_any_the_message_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "server.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"start one \(recollect serve\) or give --engine-url"):
        _engines(tmp_path)
