"""Which agents there are, and what tells two configurations apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError
from recollect.memory import MemoryWrite
from recollect.settings import AgentSettings
from server.agents import reader
from server.agents.base import AgentContext, AgentRequest
from server.agents.budget import Budget
from server.agents.fence import Fence
from server.agents.modules import Fact
from server.agents.prompts import Prompt, load_prompt
from server.agents.registry import build_agent, build_agents
from server.agents.retriever import Recalled
from server.agents.wiring import MODULES, ModuleOptions, Wiring, flow, module
from server.engines.base import Sampling
from tests.unit.agents.cases import HOME, ask, context, engine, request


@pytest.mark.parametrize("pack", ["compact", "default"])
def test_the_agents_are_built_by_their_model_names(pack: str) -> None:
    agents = build_agents(AgentSettings(policy="mine"), pack)
    assert {name: agent.id for name, agent in agents.items()} == {name: name for name in ("memory", "reader", "memory-r1", "rmm")}
    assert {name: sorted(agent.aliases) for name, agent in agents.items()} == {
        "memory": ["mine"],
        "reader": ["mine"],
        "memory-r1": ["memory-answer", "memory-manager"],
        "rmm": ["mine"],
    }


def test_a_taken_name_and_an_unknown_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'reading' already"):
        flow("reading")(reader.build)
    with pytest.raises(ConfigurationError, match="known agents: memory, memory-r1, reader, rmm"):
        build_agent("nobody", AgentSettings(), "compact")
    with pytest.raises(ConfigurationError, match="known packs"):
        build_agents(AgentSettings(), "nope")


def test_an_agent_of_ones_own_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "second.yaml").write_text(
        "id: second-reader\nflow: reading\npolicy: mine\nmodules:\n  reader: {use: recurrent, section_tokens: 40}\n"
    )
    agents = build_agents(AgentSettings(folders=(tmp_path,)), "compact")
    assert set(agents) == {"memory", "memory-r1", "reader", "rmm", "second-reader"}
    assert agents["second-reader"].aliases == {"mine"}
    assert agents["second-reader"].config_hash != agents["reader"].config_hash
    assert set(build_agents(AgentSettings(), "compact", [tmp_path])) == set(agents)


@pytest.mark.parametrize(
    ("changed", "says", "param"),
    [
        ("flow: dialog", "did you mean 'dialogue'", "mine.flow"),
        ("modules: {retriever: hybrd, answerer: cited}", "no retriever 'hybrd', did you mean 'hybrid'", "mine.modules.retriever.use"),
        (
            "modules: {retriever: {use: hybrid, limt: 3}, answerer: cited}",
            "no option 'limt', did you mean 'limit'",
            "mine.modules.retriever.limt",
        ),
        ("modules: {retriever: {use: hybrid, limit: 0}, answerer: cited}", "greater than or equal to 1", "mine.modules.retriever.limit"),
        ("modules: {answerer: cited}", "needs a module 'retriever'", "mine.modules.retriever"),
        ("modules: {retriever: hybrid, answerer: cited, reader: recurrent}", "no use for a module 'reader'", "mine.modules.reader"),
        ("modules: {retriver: hybrid, answerer: cited}", "retriver", "modules.retriver.[key]"),
        ("modules: {retriever: hybrid, answerer: cited}\nwriting: operations", "needs a module 'updater'", "mine.writing"),
        ("color: red", "color", "color"),
        ("id: reader", "both define an agent 'reader'", "id"),
        ("modules: [", "is not YAML: line", None),
    ],
)
def test_a_file_that_does_not_fit_names_the_field_and_what_there_is(tmp_path: Path, changed: str, says: str, param: str | None) -> None:
    lines = {"id": "id: mine", "flow": "flow: dialogue", "modules": "modules: {retriever: hybrid, answerer: cited}"}
    lines[changed.partition(":")[0]] = changed
    (tmp_path / "mine.yaml").write_text("\n".join(lines.values()))
    with pytest.raises(ConfigurationError) as caught:
        build_agents(AgentSettings(folders=(tmp_path,)), "compact")
    assert says in caught.value.message
    assert param is None or caught.value.param == param


async def test_an_agents_own_modules_are_called_in_their_places(tmp_path: Path) -> None:
    """A retriever, a reranker and an extractor that are registered by a decorator serve a request."""
    seen: list[str] = []

    @module("reranker", "last_first")
    @dataclass(frozen=True)
    class LastFirst:
        class Options(ModuleOptions):
            keep: int = 1

        keep: int

        @classmethod
        def build(cls, options: Options, wiring: Wiring) -> LastFirst:
            return cls(options.keep)

        async def rerank(self, query: str, candidates: Sequence[Recalled], ctx: AgentContext, *, sampling: Sampling) -> list[Recalled]:
            seen.append(f"reranked {len(candidates)} for {query}")
            return list(reversed(candidates))[: self.keep]

    @module("extractor", "own_sentences")
    @dataclass(frozen=True)
    class Sentences:
        @classmethod
        def build(cls, options: ModuleOptions, wiring: Wiring) -> Sentences:
            return cls()

        async def extract(self, turn: str, request: AgentRequest, ctx: AgentContext) -> list[Fact]:
            return [Fact(text=part.strip()) for part in turn.split(".") if part.strip()]

    try:
        (tmp_path / "mine.yaml").write_text(
            "id: mine\nflow: dialogue\nwriting: operations\nmodules:\n  retriever: hybrid\n  reranker: {use: last_first, keep: 2}\n"
            "  extractor: own_sentences\n  updater: operations\n  answerer: cited\n"
        )
        mine = build_agent("mine", AgentSettings(), "compact", [tmp_path])
        prompts: list[str] = []

        def says(prompt: str) -> str:
            prompts.append(prompt)
            return "ADD Ida lives in Oslo" if "Operations:" in prompt else "She does. [1]"

        store = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
        await store.apply(HOME, [MemoryWrite(op="add", id=f"m{i}", text=f"Ida has cat number {i}") for i in range(4)])
        ctx = context(engine(says), store)
        asked = request("Ida lives in Oslo. Right?")
        text, _, _ = await ask(mine, asked, ctx)
        await mine.remember(asked, text, ctx)
        assert seen == ["reranked 4 for Ida lives in Oslo. Right?"]
        assert prompts[0].count("cat number") == 2
        assert "Ida lives in Oslo\nRight?" in prompts[1]
        assert "Ida lives in Oslo" in [record.text for record in await store.list(HOME)]
        await store.close()
    finally:
        del MODULES["reranker", "last_first"], MODULES["extractor", "own_sentences"]


def test_the_hash_changes_with_what_the_agent_uses_and_with_nothing_else() -> None:
    def hashes(pack: str = "compact", **settings: object) -> tuple[str, str]:
        agents = build_agents(AgentSettings.model_validate(settings), pack)
        return agents["memory"].config_hash, agents["reader"].config_hash

    memory, reader = hashes()
    assert hashes() == (memory, reader)
    assert len(memory) == 64
    changed = [hashes(pack="default"), hashes(policy="other")]
    assert all(m != memory and r != reader for m, r in changed)
    for used_by_memory in (hashes(writing="operations"), hashes(retrieve=9), hashes(memory_chars=1)):
        assert used_by_memory[0] != memory
        assert used_by_memory[1] == reader
    assert hashes(section_tokens=81)[0] == memory
    assert hashes(section_tokens=81)[1] != reader


def test_a_pack_whose_answer_prompt_has_no_fence_is_refused() -> None:
    for text in ("{memories}\n{question}", "<a>\n{memories}\n</b>\n{question}", "{question}<a>\n{memories}\n</a>\n"):
        with pytest.raises(ConfigurationError, match="answer prompt"):
            Fence.of(Prompt(user=text))
    with pytest.raises(ConfigurationError, match="no system text"):
        Fence.of(load_prompt("compact", "answer").model_copy(update={"system": "Be kind."}))


def test_sizes_are_the_packs_unless_set() -> None:
    assert Budget.of(0, 0, "compact").fit(60, 10, 2048) == (80, 48)
    assert Budget.of(0, 0, "default").fit(300, 20, 32_768) == (5000, 1024)
    assert Budget.of(0, 0, "default").fit(300, 20, 4096) == (4096 - 300 - 2 * 512, 512)
    assert Budget.of(700, 30, "default").fit(300, 20, None) == (700, 30)
