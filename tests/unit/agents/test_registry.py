"""Which agents there are, and what tells two configurations apart."""

from __future__ import annotations

import pytest

from recollect.errors import ConfigurationError
from recollect.settings import AgentSettings
from server.agents.budget import Budget
from server.agents.fence import Fence
from server.agents.prompts import Prompt, load_prompt
from server.agents.reader import ReaderAgent
from server.agents.registry import BUILDERS, build_agent, build_agents, register


@pytest.mark.parametrize("pack", ["compact", "default"])
def test_the_agents_are_built_by_their_model_names(pack: str) -> None:
    agents = build_agents(AgentSettings(policy="mine"), pack)
    assert {name: agent.id for name, agent in agents.items()} == {"memory": "memory", "reader": "reader", "rmm": "rmm"}
    assert all(agent.aliases == frozenset({"mine"}) for agent in agents.values())


def test_a_taken_name_and_an_unknown_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'reader' already"):
        register("reader", ReaderAgent.build)
    with pytest.raises(ConfigurationError, match="known agents: memory, reader, rmm"):
        build_agent("nope", AgentSettings(), "compact")
    with pytest.raises(ConfigurationError, match="known packs"):
        build_agents(AgentSettings(), "nope")


def test_an_agent_of_ones_own_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.agents.registry.BUILDERS", dict(BUILDERS))
    register("second-reader", ReaderAgent.build)
    assert set(build_agents(AgentSettings(), "compact")) == {"memory", "reader", "rmm", "second-reader"}


def test_the_hash_changes_with_what_the_agent_uses_and_with_nothing_else() -> None:
    def hashes(pack: str = "compact", **settings: object) -> tuple[str, str]:
        agents = build_agents(AgentSettings.model_validate(settings), pack)
        return agents["memory"].config_hash, agents["reader"].config_hash

    memory, reader = hashes()
    assert hashes() == (memory, reader)
    assert len(memory) == 64
    assert hashes(section_tokens=80, memory_tokens=48) == (memory, reader)
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
