"""Promise 3: no stale token after a swap, and no request fails because of it, with a real vLLM.

Two versions and the base model answer one question, behind a long prefix that all share, with different tokens. While
requests stream, versions are swapped; then every token of every answer must be the one that the version named in the
response gives when nothing else goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from openai import APIError

from recollect.canary import Canary
from recollect.manifest import Manifest
from recollect.messages import Message, user
from recollect.policy import Policy
from recollect.registry import CONFIG, WEIGHTS, Registry
from recollect.trajectory import Step
from server.engines.base import Sampling, collect
from server.engines.child import VllmChild
from server.engines.fingerprint import fingerprint
from tests.api.conftest import Served, until
from tests.api.live import listening
from tests.conftest import scaled
from tests.contract.random_adapters import random_adapter

pytestmark = pytest.mark.engine

PREFIX = "Mira keeps a list of what she lent to whom. " * 20
WORKERS = 6
TOKENS = 24
GREEDY = Sampling(temperature=0.0, max_tokens=TOKENS)


class Answered(NamedTuple):
    """One streamed request: when it began, the question, its trajectory, the policy that the response names."""

    began: float
    question: str
    trajectory_id: str
    policy: str


class Greedy(NamedTuple):
    """A greedy answer: its ids, and the log-probability of each."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def asked(number: int) -> str:
    return f"{PREFIX}Question {number}: what did she lend?"


async def ids_of(engine: VllmChild, policy: Policy, question: str) -> Greedy:
    """What a policy answers when nothing else goes on."""
    messages: list[Message] = [user(question)]
    [completion] = await collect(engine.chat(messages, policy=policy, sampling=GREEDY))
    assert completion.token_ids is not None
    assert completion.logprobs is not None
    return Greedy(tuple(completion.token_ids), tuple(completion.logprobs))


def assert_answered_by(step: Step, expected: Greedy) -> None:
    """Every token is the one that the policy gives alone, with its log-probability.

    Sums are taken in another order in another batch, so two tokens that are equally likely may change places; what follows
    cannot be compared then. Another version's tokens are far from a tie: their log-probabilities differ by whole nats.
    """
    assert step.completion_ids is not None
    assert step.logprobs is not None
    for ours, alone, logprob, alone_logprob in zip(step.completion_ids, expected.ids, step.logprobs, expected.logprobs, strict=False):
        assert abs(logprob - alone_logprob) < 0.01
        if ours != alone:
            return
    assert len(step.completion_ids) == len(expected.ids)


async def publish(
    registry: Registry, engine: VllmChild, model: Path, folder: Path, version: int, canary: Canary | None = None
) -> dict[str, Greedy]:
    """Publish a random adapter as the next version; the ids of its answers by question."""
    random_adapter(folder, model, seed=version, scale=0.5)
    candidate = Policy(base=engine.base, adapter="memory", candidate=f"promise.{version}")
    await engine.load_adapter(candidate, str(folder))
    answers = {asked(number): await ids_of(engine, candidate, asked(number)) for number in range(WORKERS)}
    manifest = Manifest(
        policy="memory",
        version=version,
        base=engine.base,
        run_id="promise",
        rank=4,
        alpha=8,
        target_modules=["o_proj"],
        fingerprint=await fingerprint(engine, candidate),
        sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
    )
    await engine.unload_adapter(candidate)
    assert (folder / CONFIG).is_file()
    registry.publish(folder, manifest, make_current=False, canary=canary)
    return answers


async def stream(served: Served, number: int, ended: asyncio.Event, seen: list[Answered], failures: list[APIError]) -> None:
    """Ask the same question again and again."""
    clock = asyncio.get_running_loop().time
    while not ended.is_set():
        began = clock()
        extension: dict[str, Any] = {}
        try:
            chunks = await served.openai.chat.completions.create(
                model="memory",
                messages=[{"role": "user", "content": asked(number)}],
                metadata={"memory": "off"},
                temperature=0,
                max_tokens=TOKENS,
                stream=True,
            )
            async for chunk in chunks:
                extension = (chunk.model_extra or {}).get("recollect", extension)
        except APIError as exc:
            failures.append(exc)
            continue
        seen.append(Answered(began, asked(number), extension["trajectory_id"], extension["policies"]["memory"]))


async def test_no_token_is_stale_and_no_request_fails_over_swaps_under_load(engine: VllmChild, model_folder: Path, tmp_path: Path) -> None:
    home, registry = tmp_path / "home", Registry(tmp_path / "home" / "adapters")
    expected = {engine.base: {asked(number): await ids_of(engine, Policy(base=engine.base), asked(number)) for number in range(WORKERS)}}
    for version in (1, 2):
        expected[f"memory@v{version}"] = await publish(registry, engine, model_folder, tmp_path / f"v{version}", version)
    for number in range(WORKERS):
        assert len({answers[asked(number)].ids[:4] for answers in expected.values()}) == 3, "the versions must be told apart"

    seen: list[Answered] = []
    failures: list[APIError] = []
    clock = asyncio.get_running_loop().time
    flips: list[tuple[float, str]] = [(0.0, engine.base)]
    async with listening(home, engine) as served:
        ended = asyncio.Event()
        workers = [asyncio.create_task(stream(served, number, ended, seen, failures)) for number in range(WORKERS)]
        for swap in range(scaled(6)):
            enough = len(seen) + 2 * WORKERS
            await until(lambda enough=enough: len(seen) >= enough or bool(failures), timeout_s=300)
            version = (1, 2, None)[swap % 3]
            answer = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": version}, timeout=300)
            assert answer.status_code == 200, answer.text
            flips.append((clock(), f"memory@v{version}" if version else engine.base))
        enough = len(seen) + 2 * WORKERS
        await until(lambda: len(seen) >= enough or bool(failures), timeout_s=300)
        ended.set()
        await asyncio.gather(*workers)
        logged = {one.trajectory.id: one.trajectory for one in await served.logged()}

    assert failures == []
    for one in seen:
        [step] = logged[one.trajectory_id].steps
        assert step.policy is not None
        assert step.policy.name == one.policy
        assert_answered_by(step, expected[one.policy][one.question])
        before = [policy for at, policy in flips if at <= one.began][-1]
        assert one.policy in {before, *(policy for at, policy in flips if at > one.began)}
    assert {one.policy for one in seen} == set(expected)
