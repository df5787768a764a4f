"""What a run measures of the policy that it begins with, and of the one that it ends with."""

from __future__ import annotations

from typing import Literal

from recollect.policy import Policy
from server.engines.fingerprint import fingerprint
from trainer.evaluate import evaluate
from trainer.judging import canaries_failed
from trainer.measured import Measured
from trainer.progress import Progress
from trainer.run import Run


async def measure(run: Run, policy: Policy, stage: Literal["before", "after"]) -> Measured:
    """Fingerprint, held-out accuracy and canaries, with the same seeds before and after.

    What is recorded afterwards is of these updates: a run that ended early for want of time may go on when it is resumed.
    """
    place = stage if stage == "before" else f"after-{run.learner.updates}"
    known = await fingerprint(run.engine, policy)
    total, done = len(run.tasks.held_out) * (run.config.samples_per_task + 1), 0

    def count() -> None:
        nonlocal done
        done += 1
        run.listen(Progress(stage, done, total))

    held_out = await evaluate(
        run.rollouts_of(place),
        run.tasks.held_out,
        policy,
        samples_per_task=run.config.samples_per_task,
        temperature=run.config.optimisation.temperature,
        max_tokens=run.max_tokens,
        seed=run.config.seed,
        progress=count,
    )
    # What users said stands in the recorded rollouts alone, which forgetting blanks
    answers = zip(held_out.greedy_answers, run.tasks.held_out, strict=True)
    shown = tuple(answer if task.source == "generated" else None for answer, task in answers)
    held_out = held_out.model_copy(update={"greedy_answers": shown})
    failed = await canaries_failed(run, policy, place)
    return Measured(held_out=held_out, canaries_failed=failed, fingerprint=known)
