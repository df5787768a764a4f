"""The agents under test: how each is set up, what the scripted policy says to it, and what it remembers of one turn."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import Message, user
from recollect.settings import AgentSettings
from recollect.stores import LocalStore, MemoryStore
from server.agents.base import Agent
from server.agents.registry import build_agents
from server.agents.wiring import MODULES
from server.engines.scripted import ScriptedCall
from tests.api.conftest import Served, serving
from tests.conformance.agents.gate import Gate, GatedEmbedder, GatedEngine, GatedStore

EXAMPLE = Path(__file__).parents[3] / "examples" / "sentence_extractor"
TURN = "I have a cat and a dog. Which animals do I keep?"
FACTS = ("User has a cat.", "User has a dog.")
DOCUMENT = "The heron stands in the pond. " * 6 + "The keeper of the pond is Ola. " * 4
SEEDED = tuple(f"User keeps animal number {number}, a heron." for number in range(1, 9))
"""More memories than `rmm` shows, so that its reranker has to choose."""
ANSWER = "You keep herons, a cat and a dog, all of them in the pond [1]."


@dataclass(frozen=True)
class Case:
    """One agent. `adds`: the memories that TURN adds; `late`: whether it adds them after the answer has gone out; `recalls`: whether it
    has a memory of the user at all."""

    name: str
    model: str
    adds: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    late: bool = False
    recalls: bool = True

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is asked: to `reader` of a document of a few sections."""
        return (user(TURN),) if self.recalls else (user(DOCUMENT), user(TURN))

    @property
    def wire(self) -> list[dict[str, str]]:
        """The same as a client sends it."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    def says(self, call: ScriptedCall) -> str:
        """What the policy says, by the prompt that it is given (the compact pack)."""
        asked = call.messages[-1].content if call.messages else call.prompt
        if asked.endswith("Facts:"):
            return "\n".join(FACTS)
        if asked.endswith("Operations:"):
            turn = asked.rpartition("Turn: ")[2].removesuffix("\nOperations:")
            return "\n".join(f"ADD {line}" for line in turn.splitlines())
        if asked.endswith("numbers:"):
            return "[1, 3]"
        if "New memory:" in asked:
            return f"Herons, after {call.prompt.count('heron')} of them."
        answer = f"{ANSWER} ({call.sampling.seed})"
        if self.model == "memory-r1" and "<memory>" in asked:
            return f"[1] {SEEDED[0]}\n**Answer:** {answer}"
        return answer


CASES = (
    Case("memory, episodic", "memory", (TURN,)),
    Case("memory, operations", "memory", (TURN,), {"writing": "operations"}, late=True),
    Case("reader", "reader", (), {"section_tokens": 120, "memory_tokens": 40}, recalls=False),
    Case("memory-r1", "memory-r1", FACTS, late=True),
    Case("rmm, embedding", "rmm", (TURN,)),
    Case("rmm, policy", "rmm", (TURN,), {"rmm": {"reranker": "policy"}}),
    Case("a module of one's own", "sentences", FACTS, late=True),
)
RECALLING = tuple(case for case in CASES if case.recalls)


@dataclass(frozen=True)
class Run:
    """An application that serves a case, with the gate that all its parts pass."""

    case: Case
    served: Served
    store: GatedStore
    engine: GatedEngine
    gate: Gate
    _numbers: Iterator[int] = field(default_factory=count)

    def somebody(self) -> str:
        """A user that there was not yet."""
        return f"user{next(self._numbers)}"

    async def seed(self, namespace: Namespace, texts: tuple[str, ...] = SEEDED) -> int:
        """Store memories; returns the `seq` after them."""
        writes = [MemoryWrite(op="add", id=f"m{number}", text=text, trust="user") for number, text in enumerate(texts, start=1)]
        return (await self.store.real.apply(namespace, writes)).seq

    async def texts(self, namespace: Namespace) -> list[str]:
        """All memories, oldest first."""
        return [record.text async for record in self.store.real.export(namespace)]


def user_named(name: str) -> Namespace:
    return Namespace.parse(f"user/{name}")


def load_example() -> None:
    """Register the module of examples/sentence_extractor, as the entry point of the installed package does."""
    if ("extractor", "sentences") in MODULES:
        return
    spec = importlib.util.spec_from_file_location("sentence_extractor_example", EXAMPLE / "sentence_extractor" / "extractor.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)


@asynccontextmanager
async def running(case: Case, folder: Path, *, window: int | None = 100_000, piece_tokens: int = 24, **agents: Any) -> AsyncGenerator[Run]:
    """Serve a case on a real store in `folder`; `agents` are settings beside the case's own."""
    load_example()
    gate = Gate()
    engine = GatedEngine(answer=case.says, window=window, piece_tokens=piece_tokens, gate=gate)
    store = GatedStore(LanceMemoryStore(folder / "memory", GatedEmbedder(gate)), gate)
    home = folder / "home"
    (home / "agents").mkdir(parents=True)
    shutil.copy(EXAMPLE / "agent.yaml", home / "agents")
    async with serving(home, engine, store=cast("LocalStore", store), agents={**case.settings, **agents}) as served:
        yield Run(case, served, store, engine, gate)


def built(case: Case, home: Path, **agents: Any) -> Agent:
    """The agent of a case, as a run of training builds it."""
    settings = AgentSettings.model_validate({"prompts": "compact", **case.settings, **agents})
    return build_agents(settings, "compact", [home / "agents"])[case.model]


def as_store(store: GatedStore) -> MemoryStore:
    return cast("MemoryStore", store)
