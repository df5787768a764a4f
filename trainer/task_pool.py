"""The tasks of a run: those from the log, generated ones beside them, and those that are only measured."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from recollect.errors import ConfigurationError
from recollect.events import LoggedTrajectory
from trainer.config import TrainConfig
from trainer.environments.from_log.filters import within_share, without_duplicates
from trainer.environments.from_log.tasks import LoggedTasks, tasks_from_log
from trainer.environments.generated import generated_tasks
from trainer.environments.longcontext.fit import Length
from trainer.environments.tasks import Task
from trainer.regression import regression_tasks
from trainer.seed.world import Part
from trainer.suites.sources import tasks_of


@dataclass(frozen=True, slots=True)
class TaskPool:
    """`logged` and `generated` (or those of named sources) are trained on, `held_out` is measured.

    `left_out` counts trajectories that gave no task, by reason; `log` has what was read and made of it in figures. `answerable` are
    those that were taken out again, because they need no memory.
    """

    logged: tuple[Task, ...]
    generated: tuple[Task, ...]
    held_out: tuple[Task, ...]
    left_out: dict[str, int]
    log: dict[str, int] = field(default_factory=dict[str, int])
    answerable: tuple[Task, ...] = ()

    @property
    def training(self) -> tuple[Task, ...]:
        """All tasks to train on."""
        return (*self.logged, *self.generated)


@dataclass(frozen=True, slots=True)
class FromLog:
    """Tasks from the log: to train on, and held out."""

    training: tuple[Task, ...] = ()
    held_out: tuple[Task, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    figures: dict[str, int] = field(default_factory=dict[str, int])


def from_logged(
    config: TrainConfig,
    logged: Sequence[LoggedTrajectory],
    pool: str,
    flows: Mapping[str, str],
    *,
    learners: Collection[str] | None = None,
    fresh: Collection[str] | None = None,
) -> FromLog:
    """The log's tasks, none if generated ones alone were asked for. Tasks are held out by a hash of their conversation.

    `learners` are the agents that call the policy, `fresh` the trajectories that are new to it; None: all. Of a run since
    the cursor the tasks of new probes are trained on, and a share of the others; what is measured is of the whole log.
    """
    if config.generated_only:
        return FromLog()
    use, new = config.from_log, fresh if config.from_log.since == "cursor" else None
    aside = config.held_out_logged_share
    found = tasks_from_log(
        logged, tenant=pool, window=config.window, flows=flows, learners=learners, use=use, counted=new, held_out_share=aside
    )

    def is_new(task: Task) -> bool:
        return new is None or not set(new).isdisjoint(found.probes[task.id])

    unique = without_duplicates(found.tasks)
    share, always = use.namespace_share, use.namespace_tasks
    held_out = within_share([t for t in unique.tasks if t.id in found.held_out], share, always=always)
    rest = [t for t in unique.tasks if t.id not in found.held_out]
    training = within_share([t for t in rest if is_new(t)], share, always=always)
    older = within_share([t for t in rest if not is_new(t)], share, always=always).tasks
    again = _replayed(older, training.tasks, config)
    left_out = Counter(found.left_out)
    left_out.update("duplicate" for task in unique.left_out if is_new(task))
    left_out.update("more than its namespace's share" for task in (*held_out.left_out, *training.left_out) if is_new(task))
    figures = {"new_tasks": len(training.tasks), "replayed_tasks": len(again), "conversations": _conversations(found)}
    measured = sorted(held_out.tasks, key=lambda task: sha256(task.id.encode()).digest())[: config.held_out_logged_tasks]
    figures["held_out_tasks"] = len(held_out.tasks)
    return FromLog((*training.tasks, *again), tuple(measured), dict(left_out), figures)


def _replayed(older: Sequence[Task], new: Sequence[Task], config: TrainConfig) -> list[Task]:
    """Some of the older tasks, others whenever the new ones are others; none without new ones."""
    share = config.from_log.replay_share
    count = min(len(older), math.floor(len(new) * share / (1 - share) + 1e-9))
    chosen = random.Random(f"replay/{config.seed}/{' '.join(task.id for task in new)}").sample(range(len(older)), count)
    return [older[place] for place in sorted(chosen)]


def _conversations(found: LoggedTasks) -> int:
    """How many conversations the dialogues' probes are asked of."""
    dialogues = [task for task in found.tasks if task.kind == "dialogue"]
    return len({(task.namespace, task.as_of, tuple(turn.id for turn in task.conversation)) for task in dialogues})


def assemble(config: TrainConfig, logged: FromLog, *, length: Length, section_tokens: int) -> TaskPool:
    """Add generated tasks, or those of the sources that the configuration names: to train on at most so many that the share of
    logged ones holds, and those that are measured. `length` counts the tokens of a text.

    Raises ConfigurationError for files that are missing, or too few tasks in them.
    """
    if config.tasks:
        return _sourced(config, logged)
    count = config.generated_tasks
    if not config.generated_only:
        count = min(count, math.floor(len(logged.training) * (1 - config.min_logged_share) / config.min_logged_share))

    def make(count: int, part: Part) -> list[Task]:
        return generated_tasks(
            count,
            seed=f"{config.seed}",
            part=part,
            length=length,
            reading_share=config.reading_share,
            num_sections=config.num_sections,
            section_tokens=section_tokens,
        )

    more = (
        regression_tasks(config.gate.regression_tasks, length=length, section_tokens=section_tokens)
        if config.publish == "gate"
        else make(max(0, config.held_out_tasks - len(logged.held_out)), "held_out")
    )
    measured = (*logged.held_out, *more)
    return TaskPool(logged.training, tuple(make(count, "train")), measured, logged.left_out, logged.figures)


def _sourced(config: TrainConfig, logged: FromLog) -> TaskPool:
    """The tasks of the sources, shuffled by the run's seed: the first are held out."""
    tasks = tasks_of(config.tasks, config.data, needs=config.needs.data)
    random.Random(f"sources/{config.seed}").shuffle(tasks)
    if len(tasks) <= config.held_out_tasks:
        raise ConfigurationError(
            f"{len(tasks)} tasks leave none to train on when {config.held_out_tasks} are held out; lower held_out_tasks",
            param="held_out_tasks",
        )
    held_out, training = tasks[: config.held_out_tasks], tasks[config.held_out_tasks :]
    return TaskPool(logged.training, tuple(mixed(training, config.mix)), (*logged.held_out, *held_out), logged.left_out, logged.figures)


def mixed(tasks: Sequence[Task], weights: Mapping[str, float]) -> list[Task]:
    """As many tasks of each set as its weight allows while one set gives all of its own; all of them without weights.

    Raises ConfigurationError for the weight of a set that there is not.
    """
    if not weights:
        return list(tasks)
    counts = Counter(task.labels["set"] for task in tasks)
    if unknown := sorted(set(weights) - set(counts)):
        raise ConfigurationError(f"mix names no set of tasks: {', '.join(unknown)}; there are: {', '.join(sorted(counts))}", param="mix")
    whole = min(count / weights.get(name, 1.0) for name, count in counts.items())
    left = {name: max(1, math.floor(whole * weights.get(name, 1.0) + 1e-9)) for name in counts}
    kept: list[Task] = []
    for task in tasks:
        if left[task.labels["set"]]:
            left[task.labels["set"]] -= 1
            kept.append(task)
    return kept


class Draw:
    """Draws each iteration's tasks: every task once before any comes again, logged ones first in number. A stage of the
    curriculum begins anew, with the tasks that it allows."""

    def __init__(self, pool: TaskPool, config: TrainConfig) -> None:
        """Raises ConfigurationError if the curriculum's first stage allows no task."""
        config.curriculum.check(pool.training)
        self._config = config
        self._rng = random.Random(f"draw/{config.seed}")
        self._all = {"logged": pool.logged, "generated": pool.generated}
        self._pools: dict[str, list[Task]] = {source: [] for source in self._all}
        self._waiting: dict[str, list[Task]] = {source: [] for source in self._all}
        self._number = 0
        self._limit: int | None = 0  # of no stage: the first draw begins one

    def next(self) -> list[Task]:
        """The tasks of the next iteration: of the logged ones at least their share, no task twice."""
        self._staged()
        total, share = self._config.tasks_per_iteration, self._config.min_logged_share
        logged, generated = len(self._pools["logged"]), len(self._pools["generated"])
        num_logged = min(logged, max(math.ceil(total * share), total - generated))
        fitting = total if not logged else math.floor(num_logged * (1 - share) / share)
        num_generated = min(generated, total - num_logged, fitting)
        return self._take("logged", num_logged) + self._take("generated", num_generated)

    def _staged(self) -> None:
        """Count the iteration, and take up the tasks of its stage where one begins."""
        self._number += 1
        curriculum = self._config.curriculum
        limit = curriculum.limit(self._number, self._config.iterations)
        if limit != self._limit:
            self._limit = limit
            self._pools = {source: curriculum.fitting(tasks, limit) for source, tasks in self._all.items()}
            self._waiting = {source: [] for source in self._all}

    def _take(self, source: str, count: int) -> list[Task]:
        taken: list[Task] = []
        while len(taken) < count:
            if not self._waiting[source]:
                rest = [task for task in self._pools[source] if task not in taken]
                self._rng.shuffle(rest)
                self._waiting[source] = rest
            taken.append(self._waiting[source].pop())
        return taken
