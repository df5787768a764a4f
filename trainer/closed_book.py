"""Which logged questions the current policy answers without any memory: they cannot teach it to remember."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recollect.policy import Policy
from server.engines.base import Sampling
from trainer.environments.tasks import Task
from trainer.evaluate import matched
from trainer.rollout import Rollouts
from trainer.task_pool import TaskPool

REASON = "answerable without memory"


async def answerable(rollouts: Rollouts, tasks: Sequence[Task], policy: Policy, *, max_tokens: int) -> frozenset[str]:
    """Ids of the logged dialogues whose question the policy answers rightly, greedily, with an empty memory and nothing told.

    One rollout a task; what fails or is not scored counts as not answerable. Raises EngineError if every rollout failed.
    """
    bare = [
        task.model_copy(update={"as_of": None, "memories": (), "conversation": (), "evidence": ()})
        for task in tasks
        if task.source == "logged" and task.kind == "dialogue"
    ]
    greedy = Sampling(temperature=0.0, max_tokens=max_tokens)
    groups = await rollouts.groups(bare, 1, policy=policy, sampling=lambda *_: greedy)
    return frozenset(group.task_id for group in groups if (matched(group.trajectories[0]) or 0.0) >= 1.0)


def without(pool: TaskPool, ids: frozenset[str]) -> TaskPool:
    """The pool less these tasks, counted."""
    counted = {REASON: pool.left_out.get(REASON, 0) + len(ids)} if ids else {}
    return replace(
        pool,
        logged=tuple(task for task in pool.logged if task.id not in ids),
        held_out=tuple(task for task in pool.held_out if task.id not in ids),
        left_out={**pool.left_out, **counted},
        answerable=tuple(task for task in (*pool.logged, *pool.held_out) if task.id in ids),
    )
