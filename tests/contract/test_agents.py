"""The agents on a real vLLM: what they sent, what was sampled and what was carried on are the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.stores import MemoryStore
from server.agents.base import AgentContext, AgentRequest
from server.agents.prompts import load_prompt
from server.agents.recorder import Recorder
from server.agents.registry import build_agent
from server.engines.base import Sampling, collect
from server.engines.child import VllmChild

pytestmark = pytest.mark.engine

HOME = Namespace.parse("user/ada")
QUESTION = "What is the code of Brinar?"
DOCUMENT = "The guard of Ola is Tim. Rain fell on the hills. " * 8 + "The code of Brinar is 417. " + "The price of Ola is 12. " * 5


def context(engine: VllmChild, store: MemoryStore) -> AgentContext:
    return AgentContext(
        engine=engine,
        store=store,
        namespace=HOME,
        policies={"memory": Policy(base=engine.base)},
        recorder=Recorder(trajectory_id="t1"),
    )


async def answered(name: str, request: AgentRequest, ctx: AgentContext, pack: str = "compact") -> str:
    events = [event async for event in build_agent(name, AgentSettings(section_tokens=80, memory_tokens=16), pack).run(request, ctx)]
    assert events[-1].usage == ctx.recorder.usage
    return "".join(event.text for event in events)


@pytest.mark.parametrize("pack", ["compact", "default"])
async def test_a_reading_is_token_exact_from_the_first_section_to_the_answer(engine: VllmChild, tmp_path: Path, pack: str) -> None:
    ctx = context(engine, LanceMemoryStore(tmp_path, None))
    request = AgentRequest((user(DOCUMENT), user(QUESTION)), Sampling(temperature=1.0, seed=3, max_tokens=16), stream=True)
    answer = await answered("reader", request, ctx, pack)
    *sections, last = ctx.recorder.steps
    assert len(sections) > 1
    assert answer == last.text
    end = await engine.encode("<|im_end|>")
    tail = "\nSection:" if pack == "compact" else "\n</memory>"
    for before, after in zip(sections, [*sections[1:], last], strict=True):
        assert before.trainable
        assert before.completion_ids is not None
        assert after.prompt_ids is not None
        carried = before.completion_ids
        if before.finish_reason == "stop":
            assert carried[-1:] == end
            carried = carried[:-1]
        follows = await engine.encode(tail if after is not last or pack == "default" else "\nAnswer:")
        part = [*carried, *follows[:1]]
        assert any(after.prompt_ids[i : i + len(part)] == part for i in range(len(after.prompt_ids)))
    first = load_prompt(pack, "read_section").render(question=QUESTION, memory=load_prompt(pack, "read_section").empty_memory, section="")
    head = (await engine.render(first)).partition("\nSection:" if pack == "compact" else "\n</memory>")[0]
    assert (await engine.decode(sections[0].prompt_ids or [])).startswith(head)


async def test_a_short_document_makes_the_prompt_that_the_chat_template_makes(engine: VllmChild, tmp_path: Path) -> None:
    ctx = context(engine, LanceMemoryStore(tmp_path, None))
    await answered("reader", AgentRequest((user("The code of Brinar is 417."), user(QUESTION)), Sampling(max_tokens=8)), ctx)
    taught = load_prompt("compact", "read_section").render(question=QUESTION, memory="none", section="The code of Brinar is 417.")
    chatted = (await collect(engine.chat(taught, policy=Policy(base=engine.base), sampling=Sampling(max_tokens=1))))[0]
    assert ctx.recorder.steps[0].prompt_ids == chatted.prompt_ids


async def test_memory_answers_and_writes_with_exact_tokens(engine: VllmChild, tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    await store.apply(HOME, [MemoryWrite(op="add", id="m1", text="User's dog is Brann.")])
    ctx = context(engine, store)
    request = AgentRequest((user("What is my dog?"),), Sampling(temperature=1.0, seed=1, max_tokens=16, n=2), stream=True)
    events = [event async for event in build_agent("memory", AgentSettings(), "compact").run(request, ctx)]
    assert {event.index for event in events} == {0, 1}
    await build_agent("memory", AgentSettings(writing="operations"), "compact").remember(request, "", ctx)
    await store.close()
    assert [step.role for step in ctx.recorder.steps] == ["answerer", "answerer", "updater"]
    for step in ctx.recorder.steps:
        assert step.trainable
        assert [ref.id for ref in step.retrieved] == ["m1"]
        assert "[1] User's dog is Brann." in step.messages[0].content or "\n1 User's dog is Brann.\n" in step.messages[0].content
        assert await engine.decode(step.prompt_ids or []) == await engine.render(step.messages)
    usage = events[-1].usage
    assert usage is not None
    assert usage.prompt_tokens == len(ctx.recorder.steps[0].prompt_ids or [])
