"""The recorder counts and keeps what a call gave, whatever became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from recollect.errors import EngineUnavailable
from recollect.policy import Policy
from recollect.trajectory import MemoryOp, Usage
from server.agents.recorder import Recorder
from server.engines.base import Chunk, Sampling

POLICY = Policy(base="base")


async def gather(recorder: Recorder, *chunks: Chunk, fails: Exception | None = None, prompt_ids: list[int] | None = None) -> None:
    async def given() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk
        if fails:
            raise fails

    async for _ in recorder.call(given(), role="r", policy=POLICY, sampling=Sampling(n=2, temperature=1.0), prompt_ids=prompt_ids):
        pass


async def test_usage_of_several_choices_without_ids_is_counted_once() -> None:
    recorder = Recorder()
    usage = Usage(prompt_tokens=10, completion_tokens=7)
    await gather(recorder, Chunk(index=1, text="b"), Chunk(index=0, text="a"), Chunk(index=1, finish_reason="stop", usage=usage))
    assert [s.text for s in recorder.steps] == ["a", "b"]
    assert recorder.usage == usage
    assert recorder.steps[0].sampling == {"temperature": 1.0}


async def test_a_call_that_broke_off_counts_the_ids_that_came() -> None:
    recorder = Recorder()
    with pytest.raises(EngineUnavailable):
        await gather(recorder, Chunk(text="a", token_ids=(5,), logprobs=(-1.0,), prompt_ids=(1, 2)), fails=EngineUnavailable("gone"))
    assert recorder.usage == Usage(prompt_tokens=2, completion_tokens=1)
    assert recorder.steps[0].error == "EngineUnavailable: gone"
    assert recorder.of_role("r") == []


async def test_a_call_that_failed_at_once_is_one_step_that_used_nothing() -> None:
    recorder = Recorder()
    with pytest.raises(EngineUnavailable):
        await gather(recorder, fails=EngineUnavailable("gone"), prompt_ids=[1, 2])
    assert (len(recorder.steps), recorder.usage, recorder.steps[0].prompt_ids) == (1, Usage(), [1, 2])


async def test_prompt_ids_are_the_engines_and_belong_to_every_choice() -> None:
    recorder = Recorder()
    await gather(recorder, Chunk(index=0, text="a", prompt_ids=(1, 2)), Chunk(index=1, text="b"), prompt_ids=[9])
    await gather(recorder, Chunk(index=0, text="a"), prompt_ids=[9])
    assert [s.prompt_ids for s in recorder.steps] == [[1, 2], [1, 2], [9]]
    assert [s.index for s in recorder.steps] == [0, 1, 2]


async def test_what_becomes_known_later_is_added_to_its_step() -> None:
    recorder = Recorder()
    index = recorder.begin_operation("writer")
    await gather(recorder, Chunk(text="a"))
    recorder.amend(index, memory_ops=[MemoryOp(op="add", id="m1")])
    recorder.amend(1, cited=["m1"])
    assert [(s.role, len(s.memory_ops), s.cited) for s in recorder.steps] == [("writer", 1, []), ("r", 0, ["m1"])]


def test_every_recorder_has_an_id_of_its_own_unless_it_is_given_one() -> None:
    assert Recorder().trajectory_id != Recorder().trajectory_id
    assert Recorder(trajectory_id="t").trajectory_id == "t"


async def test_beyond_its_limit_steps_keep_text_and_counts_alone() -> None:
    recorder = Recorder(max_tokens=7)
    chunk = Chunk(text="a", token_ids=(5,), logprobs=(-1.0,), finish_reason="stop", usage=Usage(prompt_tokens=2, completion_tokens=1))
    for _ in range(2):
        await gather(recorder, chunk, prompt_ids=[1, 2])
    assert recorder.whole
    await gather(recorder, chunk, prompt_ids=[1, 2])
    await gather(recorder, Chunk(text="b", usage=Usage()), prompt_ids=[])
    assert not recorder.whole
    assert [s.prompt_ids for s in recorder.steps] == [[1, 2], [1, 2], None, None]
    assert [s.trainable for s in recorder.steps] == [True, True, False, False]
    assert [s.text for s in recorder.steps] == ["a", "a", "a", "b"]
    assert recorder.usage == Usage(prompt_tokens=6, completion_tokens=3)
