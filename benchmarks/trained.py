"""Iterations of the trainer as it is (`trainer.loop.train`) on generated documents: calls, tokens and seconds of each."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.settings import AgentSettings, EmbedderSettings, Settings
from server.engines.base import Engine
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.progress import Progress
from trainer.recorded import RecordedRollout, recorded_rollouts

MAX_TOKENS = 48
"""Of an answer; a memory of the compact prompts has as many."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """`calls` were recorded with `tokens` of prompt and completion; the update took `trained` of them, as `rows` that differ, of
    `row_tokens`. None of a group without variance is trained on."""

    calls: int
    tokens: int
    trained: int
    rows: int
    row_tokens: int
    seconds: float
    rollout_s: float
    update_s: float


def documents(*, tasks: int, group: int, sections: int, measured: int) -> TrainConfig:
    """A run on documents alone: one iteration that is not measured, then `measured` ones. Nothing else differs from a run by default."""
    return TrainConfig(
        iterations=1 + measured,
        tasks_per_iteration=tasks,
        group_size=group,
        num_sections=sections,
        max_answer_tokens=MAX_TOKENS,
        generated_only=True,
        generated_tasks=tasks * (1 + measured),
        reading_share=1.0,
        held_out_tasks=1,
        samples_per_task=1,
        publish="never",
    )


async def iterations(
    engine: Engine, home: Path, config: TrainConfig, *, section_tokens: int = 0
) -> tuple[list[Iteration], list[RecordedRollout]]:
    """Train; the measured iterations, and their rollouts.

    Seconds are those from the end of one iteration to the end of the next: rollouts and their recording, rewards, the update,
    metrics, the checkpoint, the next adapter saved and loaded.
    """
    ends: list[float] = []

    def listen(event: Progress) -> None:
        if event.stage == "train":
            ends.append(time.perf_counter())

    agents = AgentSettings(writing="operations", section_tokens=section_tokens)
    settings = Settings(home=home, agents=agents, embedder=EmbedderSettings(kind="none"))
    result = await train(config, settings, engine, listen=listen)
    rolled = [one for one in recorded_rollouts(result.run.rollouts) if one.stage.isdigit() and int(one.stage) > 1]
    tokens = tokens_by_iteration(rolled)
    found = [
        Iteration(
            calls=row["calls"],
            tokens=tokens[number],
            trained=int(row.get("samples", 0)),
            rows=int(row.get("rows", 0)),
            row_tokens=int(row.get("tokens", 0)),
            seconds=end - begin,
            rollout_s=row["rollout_s"],
            update_s=row["update_s"],
        )
        for number, (row, begin, end) in enumerate(zip(result.iterations[1:], ends, ends[1:], strict=False), start=2)
    ]
    return found, rolled


def tokens_by_iteration(rolled: Iterable[RecordedRollout]) -> dict[int, int]:
    """Tokens of all model calls of each iteration, prompts and completions."""
    found: dict[int, int] = defaultdict(int)
    for one in rolled:
        for step in one.trajectory.own_steps:
            found[int(one.stage)] += len(step.prompt_ids or ()) + len(step.completion_ids or ())
    return found


def prompts_by_iteration(rolled: Sequence[RecordedRollout], multiple: int = 1) -> list[list[list[int]]]:
    """The prompts of the first sibling of each task, for each iteration as many: a multiple of `multiple`.

    Sampled G times each, they make as many calls as the G siblings of the group made, on prompts of the same lengths.
    """
    first: dict[tuple[int, int], RecordedRollout] = {}
    for one in sorted(rolled, key=lambda one: (int(one.stage), one.task, one.sibling)):
        first.setdefault((int(one.stage), one.task), one)
    found: dict[int, list[list[int]]] = defaultdict(list)
    for (number, _), one in first.items():
        found[number] += [step.prompt_ids for step in one.trajectory.own_steps if step.prompt_ids]
    count = min(map(len, found.values())) // multiple * multiple
    return [prompts[:count] for _, prompts in sorted(found.items())]
