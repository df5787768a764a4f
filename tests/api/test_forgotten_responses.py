"""Forgetting a memory reaches the responses that said it, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError

from tests.api import tool_calls
from tests.api.conftest import Served, serving

TOOL: Any = {"type": "function", "name": "weather", "parameters": tool_calls.SCHEMA, "strict": False}


async def _forgotten(served: Served, text: str) -> None:
    added = await served.http.post("/v1/memories", json={"text": text})
    assert added.status_code in (200, 201), added.text
    forgotten = await served.http.post("/v1/memories/forget", json={"id": added.json()["id"]})
    assert forgotten.status_code == 200, forgotten.text


@pytest.mark.parametrize("word", ["auto", "memory", "weather", "disabled", "max_output_tokens", "function"])
async def test_words_of_the_protocol_were_said_by_nobody(tmp_path: Path, word: str) -> None:
    async with serving(tmp_path / "home") as served:
        answered = await served.openai.responses.create(model="memory", input="Good day.", tools=[TOOL], user="ada")
        await _forgotten(served, word)
        found = await served.http.get(f"/v1/responses/{answered.id}", params={"user": "ada"})
        assert found.status_code == 200


async def test_what_stands_in_metadata_was_said(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as served:
        answered = await served.openai.responses.create(model="memory", input="Good day.", metadata={"note": "The locker code is 4821."})
        await served.logged()
        await _forgotten(served, "The locker code is 4821.")
        with pytest.raises(NotFoundError):
            await served.openai.responses.retrieve(answered.id)
