"""What the engine seam promises, against a real vLLM: exact tokens, one template, adapters, and survival."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from random_adapters import random_adapter

from recollect.errors import AdapterRefused, ContextTooLong, EngineUnavailable, InvalidRequest, NotFound
from recollect.messages import Message, user
from recollect.policy import Policy
from recollect.tools import Tool, Tools
from server.engines.base import Chunk, Completion, Sampling, collect
from server.engines.child import VllmChild

pytestmark = pytest.mark.engine

GREEDY = Sampling(temperature=0.0, max_tokens=24, ignore_eos=True)
TALK = [
    Message(role="system", content="You remember what you are told."),
    user("My sister Zoë lives at 42 Ñuñoa Street. 日本 🙂"),
    Message(role="assistant", content="Noted."),
    user("Where does she live?\n\n"),
]


def base_of(engine: VllmChild) -> Policy:
    return Policy(base=engine.base)


async def answer(engine: VllmChild, policy: Policy | None = None, sampling: Sampling = GREEDY, *, stream: bool = False) -> Completion:
    return (await collect(engine.chat(TALK, policy=policy or base_of(engine), sampling=sampling, stream=stream)))[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_sampled_token_comes_with_its_log_probability(engine: VllmChild, stream: bool) -> None:
    sampling = Sampling(temperature=1.0, seed=5, max_tokens=16)
    chunks = [chunk async for chunk in engine.chat(TALK, policy=base_of(engine), sampling=sampling, stream=stream)]
    for chunk in chunks:
        assert chunk.token_ids is not None
        assert chunk.logprobs is not None
        assert len(chunk.token_ids) == len(chunk.logprobs) > 0
    whole = (await collect(_replay(chunks)))[0]
    assert whole.token_ids is not None
    assert whole.usage.completion_tokens == len(whole.token_ids)
    assert whole.prompt_ids is not None
    assert whole.usage.prompt_tokens == len(whole.prompt_ids)
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[0].prompt_ids is not None
    assert len(chunks) == 1 or stream


async def test_a_stream_is_the_whole_answer_in_pieces(engine: VllmChild) -> None:
    whole, streamed = await answer(engine), await answer(engine, stream=True)
    assert (streamed.text, streamed.token_ids, streamed.prompt_ids) == (whole.text, whole.token_ids, whole.prompt_ids)
    assert streamed.logprobs == pytest.approx(whole.logprobs, abs=1e-4)
    assert (streamed.finish_reason, streamed.usage) == (whole.finish_reason, whole.usage)


async def test_the_rendered_text_encodes_to_what_chat_prompts_with(engine: VllmChild) -> None:
    assert await engine.encode(await engine.render(TALK)) == (await answer(engine)).prompt_ids


async def test_continuing_the_prompts_ids_is_the_same_as_chatting(engine: VllmChild) -> None:
    chatted = await answer(engine)
    assert chatted.prompt_ids is not None
    for stream in (False, True):
        [completed] = await collect(engine.complete(chatted.prompt_ids, policy=base_of(engine), sampling=GREEDY, stream=stream))
        assert completed.token_ids == chatted.token_ids
        assert completed.logprobs == pytest.approx(chatted.logprobs, abs=1e-4)
        assert completed.prompt_ids == chatted.prompt_ids


async def test_texts_survive_encoding_and_decoding(engine: VllmChild) -> None:
    text = "<|im_start|>user\nZoë, 42 🙂<|im_end|>\n"
    assert await engine.decode(await engine.encode(text)) == text
    assert await engine.encode("") == []


@pytest.mark.parametrize("stream", [False, True])
async def test_two_choices_each_have_their_prompt_and_the_usage_comes_once(engine: VllmChild, stream: bool) -> None:
    prompt = await engine.encode(await engine.render(TALK))
    max_tokens = 32
    sampling = Sampling(temperature=2.0, seed=3, max_tokens=max_tokens, n=2, ignore_eos=True)
    chunks = [chunk async for chunk in engine.complete(prompt, policy=base_of(engine), sampling=sampling, stream=stream)]
    first, second = await collect(_replay(chunks))
    assert first.prompt_ids == second.prompt_ids == prompt
    assert first.token_ids != second.token_ids
    assert [chunk.usage for chunk in chunks if chunk.usage] == [chunks[-1].usage]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2 * max_tokens


async def test_a_seed_decides_the_answer(engine: VllmChild) -> None:
    async def sampled(seed: int) -> list[int] | None:
        return (await answer(engine, sampling=Sampling(temperature=1.5, seed=seed, max_tokens=16, ignore_eos=True))).token_ids

    assert await sampled(1) == await sampled(1)
    assert await sampled(1) != await sampled(2)


async def test_a_crowd_of_seeded_requests_is_answered_as_each_alone(engine: VllmChild) -> None:
    prompts = [[5 + k] * 150 for k in range(32)]

    async def sampled(k: int) -> list[int] | None:
        sampling = Sampling(temperature=1.0, seed=k, max_tokens=4, ignore_eos=True)
        return (await collect(engine.complete(prompts[k], policy=base_of(engine), sampling=sampling)))[0].token_ids

    together = await asyncio.gather(*(sampled(k) for k in range(len(prompts))))
    assert together[:4] == [await sampled(k) for k in range(4)]


async def test_log_probabilities_are_of_what_was_sampled_from(engine: VllmChild) -> None:
    certain = await answer(engine, sampling=Sampling(temperature=1.0, top_p=1e-6, seed=1, max_tokens=8, ignore_eos=True))
    assert certain.logprobs == pytest.approx([0.0] * 8, abs=1e-6)


async def test_a_stop_string_cuts_the_text_and_keeps_the_tokens(engine: VllmChild) -> None:
    greedy = await answer(engine)
    stop = next(part for part in (greedy.text[start : start + 3] for start in range(4, len(greedy.text))) if part.isascii())
    for stream in (False, True):
        stopped = await answer(engine, sampling=Sampling(temperature=0.0, max_tokens=24, stop=(stop,), ignore_eos=True), stream=stream)
        assert stopped.text == greedy.text[: greedy.text.index(stop)]
        assert stopped.finish_reason == "stop"
        assert greedy.token_ids is not None
        assert stopped.token_ids == greedy.token_ids[: len(stopped.token_ids or ())]
        assert stop in await engine.decode(stopped.token_ids or [])


async def test_without_max_tokens_an_answer_may_fill_the_window(engine: VllmChild) -> None:
    assert engine.window is not None
    prompt = [5] * (engine.window - 30)
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    [completion] = await collect(engine.complete(prompt, policy=base_of(engine), sampling=sampling))
    assert completion.finish_reason == "length"
    assert len(completion.token_ids or ()) == 30


async def test_too_long_a_prompt_is_refused_with_both_lengths(engine: VllmChild) -> None:
    long = [user("word " * 8000)]
    tokens = len(await engine.encode(await engine.render(long)))
    with pytest.raises(ContextTooLong) as chatted:
        await collect(engine.chat(long, policy=base_of(engine), sampling=GREEDY, stream=True))
    assert (chatted.value.prompt_tokens, chatted.value.window_tokens) == (tokens, engine.window)
    assert engine.window is not None
    with pytest.raises(ContextTooLong) as completed:
        await collect(engine.complete([5] * engine.window, policy=base_of(engine), sampling=GREEDY))
    assert (completed.value.prompt_tokens, completed.value.window_tokens) == (engine.window, engine.window)


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(temperature=0.0, n=2), "n"),
        (Sampling(temperature=-1.0), "temperature"),
        (Sampling(top_p=7.0), "top_p"),
        (Sampling(max_tokens=10**6), "max_tokens"),
        (Sampling(seed=2**65), "seed"),
        (Sampling(stop=("",)), "stop"),
    ],
)
async def test_a_refused_field_is_named(engine: VllmChild, sampling: Sampling, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await collect(engine.chat(TALK, policy=base_of(engine), sampling=sampling))
    assert refused.value.param == param


async def test_a_salt_changes_nothing_but_the_cache(engine: VllmChild) -> None:
    [salted] = await collect(engine.chat(TALK, policy=base_of(engine), sampling=GREEDY, salt="tenant-a"))
    assert salted.token_ids == (await answer(engine)).token_ids


async def test_an_answer_that_nobody_reads_on_is_given_up(engine: VllmChild) -> None:
    assert engine.window is not None
    sampling = Sampling(temperature=0.0, max_tokens=engine.window - 200, ignore_eos=True)
    stream = engine.chat(TALK, policy=base_of(engine), sampling=sampling, stream=True)
    async for _ in stream:
        break
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    assert (await answer(engine)).finish_reason == "length"


async def test_an_adapter_answers_by_its_name_until_it_is_unloaded(engine: VllmChild, model_folder: Path, tmp_path: Path) -> None:
    policy = Policy(base=engine.base, adapter="memory", version=1)
    with pytest.raises(NotFound):
        await answer(engine, policy)
    folder = random_adapter(tmp_path / "v1", model_folder)
    await engine.load_adapter(policy, str(folder))
    await engine.load_adapter(policy, str(folder))
    adapted, plain = await answer(engine, policy), await answer(engine)
    assert adapted.prompt_ids == plain.prompt_ids
    assert adapted.token_ids != plain.token_ids
    assert (await answer(engine, policy, stream=True)).token_ids == adapted.token_ids
    await engine.unload_adapter(policy)
    await engine.unload_adapter(policy)
    for stream in (False, True):
        with pytest.raises(NotFound):
            await answer(engine, policy, stream=stream)


async def test_unloading_lets_requests_in_flight_finish(engine: VllmChild, model_folder: Path, tmp_path: Path) -> None:
    policy = Policy(base=engine.base, adapter="memory", version=2)
    await engine.load_adapter(policy, str(random_adapter(tmp_path / "v2", model_folder, seed=2)))
    expected = await answer(engine, policy)
    stream = engine.chat(TALK, policy=policy, sampling=GREEDY, stream=True)
    chunks = [await anext(stream)]
    await engine.unload_adapter(policy)
    chunks += [chunk async for chunk in stream]
    assert (await collect(_replay(chunks)))[0].token_ids == expected.token_ids


async def test_more_adapters_than_slots_all_answer(engine: VllmChild, model_folder: Path, tmp_path: Path) -> None:
    policies = [Policy(base=engine.base, adapter="memory", version=100 + k) for k in range(engine.settings.max_loras + 2)]
    for k, policy in enumerate(policies):
        await engine.load_adapter(policy, str(random_adapter(tmp_path / str(k), model_folder, seed=k)))
    alone = [(await answer(engine, policy)).token_ids for policy in policies]
    together = await asyncio.gather(*(answer(engine, policy) for policy in policies))
    assert [completion.token_ids for completion in together] == alone
    for policy in policies:
        await engine.unload_adapter(policy)


@pytest.mark.parametrize("fault", ["rank", "base", "missing", "truncated"])
async def test_an_adapter_that_does_not_fit_is_refused_and_the_engine_survives(
    engine: VllmChild, model_folder: Path, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / fault
    if fault != "missing":
        rank = 2 * engine.settings.max_lora_rank if fault == "rank" else 4
        random_adapter(folder, model_folder, rank=rank, hidden=96 if fault == "base" else None)
    if fault == "truncated":
        weights = folder / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    before = await answer(engine)
    policy = Policy(base=engine.base, adapter="memory", version=13)
    with pytest.raises(AdapterRefused):
        await engine.load_adapter(policy, str(folder))
    assert (await answer(engine)).token_ids == before.token_ids
    with pytest.raises(NotFound):
        await answer(engine, policy)


async def test_a_killed_engine_breaks_streams_loudly_and_comes_back_with_its_adapters(
    engine: VllmChild, model_folder: Path, tmp_path: Path
) -> None:
    policy = Policy(base=engine.base, adapter="memory", version=7)
    await engine.load_adapter(policy, str(random_adapter(tmp_path / "v7", model_folder, seed=7)))
    before = await answer(engine, policy)
    assert engine.window is not None
    assert engine.pid is not None
    processes = psutil.Process(engine.pid).children(recursive=True)
    core = next(process for process in processes if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()))
    # One answer that fills the window takes a second: a test process that pauses as long would find it ended well.
    endless = Sampling(temperature=1.0, max_tokens=engine.window - 200, ignore_eos=True, n=16)
    stream = engine.chat(TALK, policy=policy, sampling=endless, stream=True)
    await anext(stream)
    core.kill()
    with pytest.raises(EngineUnavailable):
        async for _ in stream:
            pass
    with pytest.raises(EngineUnavailable):
        await answer(engine, policy)
    async with asyncio.timeout(30):
        while engine.url is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(EngineUnavailable) as refused:
        await answer(engine, policy)
    assert refused.value.retry_after_s >= 1
    assert not (await engine.health()).ready
    await engine.ready(engine.settings.start_timeout_s)
    assert not [process for process in processes if process.is_running()]
    after = await answer(engine, policy)
    assert after.token_ids == before.token_ids
    assert after.logprobs == pytest.approx(before.logprobs, abs=1e-4)
    await engine.unload_adapter(policy)


async def _replay(chunks: list[Chunk]):
    for chunk in chunks:
        yield chunk


WEATHER = Tools(offered=(Tool(name="weather"),))


async def test_tools_of_a_model_whose_calls_are_not_read_are_refused_with_the_setting(engine: VllmChild) -> None:
    for tools in (WEATHER, WEATHER.model_copy(update={"choice": "function", "named": "weather"})):
        with pytest.raises(InvalidRequest, match=r"engine\.tool_call_parser"):
            await collect(engine.chat(TALK, policy=base_of(engine), sampling=GREEDY, tools=tools))


@pytest.mark.parametrize("max_tokens", [1_000_000, "almost"])
async def test_a_limit_that_need_not_fit_is_cut_to_the_window(engine: VllmChild, max_tokens: int | str) -> None:
    assert engine.window is not None
    limit = max_tokens if isinstance(max_tokens, int) else engine.window - 1
    wanted = replace(GREEDY, max_tokens=limit)
    if limit > engine.window:
        with pytest.raises(InvalidRequest):
            await answer(engine, sampling=wanted)
    chatted = await answer(engine, sampling=replace(wanted, at_most=True))
    assert chatted.text
    assert chatted.prompt_ids is not None
    [completed] = await collect(engine.complete(chatted.prompt_ids, policy=base_of(engine), sampling=replace(wanted, at_most=True)))
    assert completed.token_ids == chatted.token_ids


async def test_tokens_are_counted_as_chat_prompts_with_them(engine: VllmChild) -> None:
    assert await engine.count(TALK) == len((await answer(engine)).prompt_ids or ())
