"""The baselines: what each of them shows the model, read from recorded prompts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.trajectory import Trajectory
from server.engines.base import Sampling
from server.engines.scripted import ScriptedEngine
from trainer.environments.base import Environment
from trainer.environments.tasks import Task, Turn
from trainer.suites.baselines import BASELINES, baselines
from trainer.suites.passages import passages, without_middle

FACTS = ["My dog is called Tarvo.", "I live in Quarn.", "My sister plays the oboe.", "It rained all day.", "I drink tea."]
MAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[LanceMemoryStore]:
    made = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    yield made
    await made.close()


def dialogue(name: str) -> Task:
    told = tuple(Turn(messages=(user(text),), reply=f"Reply {i}.", at=MAY) for i, text in enumerate(FACTS))
    return Task.model_validate(
        {"id": "d", "kind": "dialogue", "agent": name, "namespace": Namespace.parse("user/ada"), "conversation": told}
        | {"request": (user("What is my dog called?"),), "gold": ("Tarvo",), "source": "file"}
    )


def reading(name: str, num_paragraphs: int = 40) -> Task:
    text = "\n".join(f"Paragraph {i} speaks of weather and trade." for i in range(num_paragraphs))
    half = len(text) // 2
    document = f"Head of all.\n{text[:half]}\nThe oboe of Quarn is made of ivory.\n{text[half:]}\nTail of all."
    asked = (user(document), user("What is the oboe of Quarn made of?"))
    return Task(id="r", kind="reading", agent=name, request=asked, gold=("ivory",), source="file")


async def prompt_of(task: Task, store: LanceMemoryStore, engine: ScriptedEngine | None = None, retrieve: int = 1) -> tuple[str, Trajectory]:
    """What the model was asked in the one call that was answered."""
    engine = engine or ScriptedEngine(answer=lambda _: "\\boxed{said}", window=100_000)
    agent = baselines(AgentSettings(retrieve=retrieve), "compact")[task.agent]
    fork = await store.fork(task.namespace, as_of=0)
    environment = Environment(task=task, fork=fork, engine=engine, policies={"memory": Policy(base="scripted")}, sampling=Sampling())
    trajectory = await environment.run(agent)
    assert trajectory.error is None, trajectory.error
    assert trajectory.answer == "\\boxed{said}"
    return engine.calls[-1].messages[-1].content, trajectory


async def test_without_memory_only_the_question_is_shown(store: LanceMemoryStore) -> None:
    prompt, trajectory = await prompt_of(dialogue("no-memory"), store)
    assert prompt == "What is my dog called?"
    assert [step.role for step in trajectory.steps] == ["answerer"]
    assert trajectory.memory_seq_after == {"user/ada": 0}
    prompt, _ = await prompt_of(reading("no-memory"), store)
    assert "What is the oboe of Quarn made of?" in prompt
    assert "ivory" not in prompt
    assert "Paragraph" not in prompt


async def test_full_context_shows_everything_in_order_with_replies_and_days(store: LanceMemoryStore) -> None:
    prompt, _ = await prompt_of(dialogue("full-context"), store)
    places = [prompt.index(text) for text in FACTS]
    assert places == sorted(places)
    assert "[2023-05-08 13:56] My dog is called Tarvo." in prompt
    assert all(f"assistant: Reply {i}." in prompt for i in range(len(FACTS)))
    assert prompt.endswith("What is my dog called?")


async def test_full_context_of_a_document_is_the_document(store: LanceMemoryStore) -> None:
    task = reading("full-context")
    prompt, trajectory = await prompt_of(task, store)
    assert task.request[0].content in prompt
    assert [step.role for step in trajectory.steps] == ["reader_answer"]


async def test_what_does_not_fit_the_window_loses_its_middle(store: LanceMemoryStore) -> None:
    engine = ScriptedEngine(answer=lambda _: "\\boxed{said}", window=600)
    prompt, trajectory = await prompt_of(reading("full-context"), store, engine)
    assert len(prompt) < 600
    assert "Head of all." in prompt
    assert "Tail of all." in prompt
    assert "ivory" not in prompt
    assert [step.error is None for step in trajectory.steps][-1]


async def test_a_conversation_that_does_not_fit_loses_its_oldest_turns(store: LanceMemoryStore) -> None:
    engine = ScriptedEngine(answer=lambda _: "\\boxed{said}", window=250)
    prompt, _ = await prompt_of(dialogue("full-context"), store, engine)
    assert "I drink tea." in prompt
    assert "Tarvo" not in prompt


@pytest.mark.parametrize("name", ["rag-text", "rag-dense"])
async def test_search_shows_the_turn_that_answers_and_not_the_others(store: LanceMemoryStore, name: str) -> None:
    prompt, trajectory = await prompt_of(dialogue(name), store)
    assert "Tarvo" in prompt
    assert "I drink tea." not in prompt
    assert len(trajectory.steps[-1].retrieved) == 1


@pytest.mark.parametrize("name", ["rag-text", "rag-dense"])
async def test_search_shows_the_passage_that_answers_in_the_order_of_the_document(store: LanceMemoryStore, name: str) -> None:
    prompt, trajectory = await prompt_of(reading(name), store, retrieve=4)
    assert "ivory" in prompt
    shown = [line for line in prompt.splitlines() if line.startswith("Paragraph ")]
    numbers = [int(line.split()[1]) for line in shown]
    assert numbers == sorted(numbers)
    assert len(trajectory.steps[-1].retrieved) <= 4
    assert len(prompt) < 900


async def test_each_search_is_of_its_own_kind(store: LanceMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    fork = type(await store.fork(Namespace()))
    search = fork.search

    async def seen(self: object, *args: object, **options: object) -> object:
        modes.append(str(options["mode"]))
        return await search(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fork, "search", seen)
    for name in BASELINES:
        await prompt_of(dialogue(name), store)
    assert modes == ["text", "dense"]


async def test_baselines_make_one_model_call(store: LanceMemoryStore) -> None:
    for name in BASELINES:
        for task in (dialogue(name), reading(name)):
            _, trajectory = await prompt_of(task, store)
            assert sum(step.policy is not None for step in trajectory.steps) == 1


def test_configurations_have_hashes_of_their_own() -> None:
    of_one, of_other = (baselines(AgentSettings(retrieve=count), "compact") for count in (1, 2))
    hashes = [agent.config_hash for agent in (*of_one.values(), *of_other.values())]
    assert len(set(hashes)) == len(hashes)


def test_passages_are_cut_at_white_space_and_lose_no_word() -> None:
    text = " ".join(f"word{i}" for i in range(100)) + "\n" + "x" * 50
    found = passages(text, 40)
    assert all(0 < len(piece) <= 40 for piece in found)
    assert "".join(found).replace(" ", "") == "".join(text.split())
    assert all(word in text.split() for piece in found[:-2] for word in piece.split())
    assert passages("  \n ", 10) == []


def test_centre_truncation_keeps_head_and_tail_and_always_gets_shorter() -> None:
    assert without_middle("abcdefghij", 0.4) == "abij"
    text = "x" * 100
    while text:
        shorter = without_middle(text, 1.5)
        assert len(shorter) < len(text)
        text = shorter
