"""What becomes of a run's last candidate: it is published, put into quarantine, or left, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from recollect.errors import CorruptLog
from recollect.policy import Policy
from trainer.batches import rebuilt
from trainer.canaries import canaries, num_failed
from trainer.environments.from_log.tasks import CONVERSING
from trainer.environments.tasks import Task
from trainer.evaluate import paired_difference
from trainer.gate import Checks, decide
from trainer.iterations import Learned
from trainer.measured import Measured
from trainer.publish import unchanged
from trainer.run import Run
from trainer.samples import Sample
from trainer.verdict import Verdict


async def canaries_failed(run: Run, policy: Policy, stage: str) -> int:
    """How many canaries a policy fails; 0 where no gate asks, or no agent of the run's tasks answers from memory."""
    tasks = _canaries(run) if run.config.publish == "gate" else []
    return await num_failed(run.rollouts_of(f"canaries_{stage}"), tasks, policy, max_tokens=run.max_tokens) if tasks else 0


async def judged(run: Run, before: Measured, after: Measured, learned: Learned) -> Verdict:
    """The verdict on what the run learned."""
    config, (iterations, samples) = run.config, learned
    if config.publish == "never":
        return Verdict(("publish=never",))
    if not run.learner.updates:
        return Verdict((_untaught(iterations),))
    if why := unchanged(after.fingerprint, before.fingerprint):
        return Verdict((why,))
    if config.publish == "gate":
        checks = await run.device.use(partial(_checks, run, before, after, samples, len(iterations)))
        decision = decide(config.gate, run.tasks.held_out, before.held_out, after.held_out, checks, seed=config.seed)
        return Verdict(decision.reasons, keep=True, gate=decision.figures)
    difference = paired_difference(before.held_out.sampled, after.held_out.sampled, seed=config.seed)
    if config.publish == "unless_worse" and difference is not None and difference.high < 0:
        said = f"worse on held-out tasks: {difference.mean:+.3f}, interval {difference.low:+.3f} to {difference.high:+.3f}"
        return Verdict((said,), keep=True)
    return Verdict()


def _untaught(iterations: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing was learned."""
    counts = {name: sum(row[name] for row in iterations) for name in ("groups", "groups_flat", "groups_small", "unscored", "failed")}
    return (
        f"no update was made: of {counts['groups']} groups {counts['groups_flat']} had rewards all alike, {counts['groups_small']} fewer "
        f"than two scored rollouts ({counts['unscored']} rollouts were not scored, {counts['failed']} of them failed)"
    )


def _checks(run: Run, before: Measured, after: Measured, samples: Sequence[Sample], num_iterations: int) -> Checks:
    """`samples` are of the last update; empty: it was made by another process, and they are found on the disk."""
    samples = samples or _last_samples(run, num_iterations)
    return Checks(
        norm=run.learner.largest_change(),
        divergence=run.learner.divergence(samples) if samples else None,
        canaries=len(_canaries(run)),
        canaries_failed_before=before.canaries_failed,
        canaries_failed_after=after.canaries_failed,
    )


def _last_samples(run: Run, num_iterations: int) -> list[Sample]:
    """Of the last update, from the disk; none if it cannot be read there."""
    try:
        found = list(rebuilt(run.folder.rollouts, run.config, alias=run.alias, window=run.learner.window))
    except CorruptLog:
        return []
    batches = [one.batch.samples for one in found if one.iteration <= num_iterations and one.batch is not None and one.batch.samples]
    return batches[-1] if batches else []


def _canaries(run: Run) -> list[Task]:
    """To an agent of the run's tasks that answers from memory; none without such an agent."""
    tasks = (*run.tasks.training, *run.tasks.held_out)
    agent = next((task.agent for task in tasks if task.kind in CONVERSING), None)
    return canaries(agent) if agent else []
