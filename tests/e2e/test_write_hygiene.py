"""Conversations lived through twice, with what was recalled fed back by the client: nothing recalled is stored, nothing twice."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

from recollect.memory import Namespace
from server.engines.scripted import ScriptedEngine
from tests.api.conftest import Served, serving
from tests.conftest import scaled

PERSONAS = Path(__file__).parents[3] / "shared" / "data" / "synthetic_persona_chat" / "dev200.csv"
MARKS = ("<memory>", "</memory>", "[1] ")


def generated(number: int) -> list[list[str]]:
    """Conversations of one user's turns each."""
    rng = random.Random(number)
    things = ("dog", "boat", "school", "garden", "cello", "turtle", "town", "sister")
    return [[f"I have a {rng.choice(things)} called {rng.randrange(1000)}." for _ in range(6)] + ["Thanks!"] for _ in range(number)]


def told() -> list[list[str]]:
    """User 1's turns of the persona conversations where they lie beside this checkout and the counts are full, else generated ones."""
    if scaled(1) < 20 or not PERSONAS.is_file():
        return generated(scaled(4))
    with PERSONAS.open(encoding="utf-8", newline="") as file:
        talks = [row["Best Generated Conversation"] for row in csv.DictReader(file)]
    return [[line.partition(": ")[2] for line in talk.splitlines() if line.startswith("User 1: ")] for talk in talks]


async def lived(served: Served, user: str, turns: list[str]) -> None:
    """Say each turn; the second time with the prompt's own memories pasted in front, as clients do that keep whole prompts."""
    for feeds_back in (False, True):
        recalled = ""
        for turn in turns:
            await served.ask(recalled + turn, user=user)
            prompt = served.engine.calls[-1].messages[-1].content
            block, end, _ = prompt.rpartition("</memory>\n")
            recalled = block + end if feeds_back else ""


async def test_nothing_recalled_is_stored_and_hardly_anything_twice(tmp_path: Path) -> None:
    stored = doubled = fed_back = 0
    async with serving(tmp_path, ScriptedEngine()) as served:
        for number, turns in enumerate(told()):
            await lived(served, f"u{number}", turns)
            records = await served.service.memories.list(Namespace(parts=(("user", f"u{number}"),)), limit=10_000)
            said = Counter(" ".join(record.text.lower().split()) for record in records)
            assert not [record.text for record in records if any(mark in record.text for mark in MARKS)]
            assert set(said) <= {" ".join(turn.lower().split()) for turn in turns}
            stored += len(records)
            if number % 20 == 0:  # an audit reads the whole log
                await served.logged()
                loops = (await served.service.auditing.audit(Namespace(parts=(("user", f"u{number}"),)))).loops
                assert (loops.count, loops.untraced, loops.traced) == (0, 0, len(records))
            doubled += len(records) - len(said)
        fed_back = sum("</memory>" in str(item.trajectory.request) for item in await served.logged())
    assert fed_back > 0, "nothing was fed back: the test shows nothing"
    assert doubled < 0.02 * stored
    print(f"{stored} memories stored, {doubled} of them twice; {fed_back} requests with memories fed back")
