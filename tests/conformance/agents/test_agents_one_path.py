"""One code path: what is served and what is rolled out in training are the same prompts, tokens and operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recollect.messages import Message, assistant, user
from recollect.policy import Policy
from recollect.trajectory import Step, Trajectory
from server.engines.base import Sampling
from tests.conformance.agents.cases import DOCUMENT, Case, Run, built, running, user_named
from trainer.environments.base import Environment
from trainer.environments.tasks import Task, Turn

SAMPLING = {"temperature": 0.7, "seed": 11, "max_tokens": 200}


def _frozen(case: Case) -> dict[str, Any]:
    """A rollout chooses without noise, so the served reranker has to, too, where the two are compared."""
    return {"rmm": {**case.settings.get("rmm", {}), "learn": False}} if case.model == "rmm" else {}


async def test_the_same_turns_served_and_rolled_out_are_the_same_steps(case: Case, tmp_path: Any) -> None:
    async with running(case, tmp_path, **_frozen(case)) as run:
        namespace = user_named("ada")
        seq = await run.seed(namespace)
        first, second = case.messages, _later(case)
        before = await _served(run, first)
        after = await _served(run, second)
        told = Turn(messages=first, reply=before.answer, session="monday", at=before.created_at)
        trajectory = await _rolled_out(run, told, second, seq)
        served = [*_written(before.steps), *_answering(after.steps)]
        assert trajectory.error is None
        assert len(trajectory.steps) == len(served)
        for rolled_out, step in zip(trajectory.steps, served, strict=True):
            assert _facts(rolled_out) == _facts(step)
        assert trajectory.answer == after.answer
        assert trajectory.agent_config_hash == after.agent_config_hash
        assert all(step.trainable for step in trajectory.steps if step.policy)


async def _served(run: Run, messages: Sequence[Message]) -> Trajectory:
    body = [{"role": message.role, "content": message.content} for message in messages]
    await run.served.ask("", messages=body, model=run.case.model, user="ada", metadata={"session_id": "monday"}, **SAMPLING)
    return (await run.served.logged())[-1].trajectory


async def _rolled_out(run: Run, told: Turn, request: Any, seq: int) -> Any:
    namespace = user_named("ada")
    task = Task(
        id="t",
        kind="dialogue",
        agent=run.case.model,
        namespace=namespace,
        as_of=seq,
        conversation=(told,),
        request=request,
        session="monday",
        at=told.at,
        gold=("x",),
        source="generated",
    )
    agent = built(run.case, run.served.home, **_frozen(run.case))
    fork = await run.store.real.fork(namespace, as_of=seq)
    policies = {alias: Policy(base="scripted") for alias in agent.aliases}
    return await Environment(task=task, fork=fork, engine=run.engine, policies=policies, sampling=Sampling(**SAMPLING)).run(agent)


def _later(case: Case) -> Any:
    if not case.recalls:
        return (user(f"{DOCUMENT} It is deep."), user("How deep is the pond of the heron?"))
    return (user("Hello."), assistant("Hello, what is it?"), user("Which animals do I keep, a heron, a cat or a dog?"))


def _answering(steps: list[Step]) -> list[Step]:
    """The steps up to the answer."""
    last = max(place for place, step in enumerate(steps) if step.role in ("answerer", "reader_answer"))
    return steps[: last + 1]


def _written(steps: list[Step]) -> list[Step]:
    """The steps after the answer."""
    return steps[len(_answering(steps)) :]


def _facts(step: Step) -> Any:
    """What has to be the same: all but ids of memories, which follow from the trajectory's, and times."""
    return (
        step.role,
        step.alias,
        [(message.role, message.content) for message in step.messages],
        step.prompt_ids,
        step.completion_ids,
        step.text,
        step.sampling,
        [ref.score and round(ref.score, 4) for ref in step.retrieved],
        len(step.cited),
        [(op.op, op.text, op.applied, op.well_formed) for op in step.memory_ops],
    )
