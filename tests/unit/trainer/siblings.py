"""Trajectories of a group, built by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recollect.policy import Policy
from recollect.trajectory import Forked, MemoryOp, MemoryRef, Reward, Step, Trajectory, TrajectoryGroup
from trainer.credit import Sibling

POLICY = Policy(base="base", adapter="memory", candidate="r1.3")


def call(index: int, role: str = "answerer", *, wrote: str = "", retrieved: Sequence[str] = (), cited: Sequence[str] = ()) -> Step:
    """A trainable call; an updater that `wrote` a memory of that id, or an answerer that was given `retrieved` ones."""
    return Step(
        index=index,
        role=role,
        policy=POLICY,
        prompt_ids=[1, 2],
        completion_ids=[7],
        logprobs=[-0.5],
        memory_ops=[MemoryOp(op="add", id=wrote, text=wrote)] if wrote else [],
        retrieved=[MemoryRef(id=memory, content_hash="") for memory in retrieved],
        cited=list(cited),
    )


def trajectory(
    name: str,
    match: float,
    *steps: Step,
    gains: Mapping[int, float] | None = None,
    others: float | None = None,
    forked: Forked | None = None,
) -> Trajectory:
    """`gains` is what each step earned of a reward that tells them apart, `others` the score of a further one that does not."""
    rewards = [Reward(name="exact_match", score=match)]
    if gains is not None:
        rewards.append(Reward(name="information_gain", score=sum(gains.values()), by_step=dict(gains)))
    if others is not None:
        rewards.append(Reward(name="format", score=others))
    return Trajectory(
        id=name,
        tenant="local",
        namespace="user/a",
        session="s",
        agent="memory",
        agent_config_hash="",
        request=[],
        steps=list(steps),
        rewards=rewards,
        forked=forked,
    )


def siblings(*trajectories: Trajectory) -> list[Sibling]:
    """What an estimator is given."""
    return [Sibling(one, one.reward or 0.0) for one in trajectories]


def group(*trajectories: Trajectory) -> TrajectoryGroup:
    return TrajectoryGroup(task_id="t", trajectories=list(trajectories))
