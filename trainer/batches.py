"""The batch of an update: a pure function of recorded rollouts and the configuration, so that it can be rebuilt from the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np

from recollect.trajectory import Trajectory, TrajectoryGroup
from trainer.config import TrainConfig
from trainer.credit import Credited, Learning, credit
from trainer.imitation import imitated
from trainer.recorded import RecordedRollout, recorded_rollouts
from trainer.samples import Sample, merge_identical, within_window


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one update, none if its groups taught nothing. `num_too_long` calls did not fit into the model's window."""

    samples: list[Sample]
    credited: Credited
    num_too_long: int
    imitates: bool = False
    """Whether its calls were sampled to be imitated: no ratio weighs them."""

    @property
    def sha256(self) -> str | None:
        """Of everything that the update depends on; None without samples."""
        return _sha256(self.samples) if self.samples else None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The batch of an iteration as the disk has it; None where it cannot be rebuilt, because `num_forgotten` rollouts were forgotten."""

    iteration: int
    batch: Batch | None
    num_forgotten: int


def batch_of(groups: Sequence[TrajectoryGroup], config: TrainConfig, number: int, *, alias: str, window: int) -> Batch:
    """The batch of iteration `number`: the groups credited, or imitated, and the calls of policy `alias` that fit into `window` tokens.

    Identical calls are merged where the loss allows it.
    """
    learning, imitates = Learning(alias, config.roles), number <= config.imitate
    credited = imitated(groups, learning) if imitates else credit(groups, config.credit, learning=learning)
    samples, num_too_long = within_window(credited.samples, window)
    return Batch(merge_identical(samples) if config.optimisation.mergeable else samples, credited, num_too_long, imitates)


def rebuilt(root: Path, config: TrainConfig, *, alias: str, window: int) -> Iterator[Rebuilt]:
    """The batch of every iteration that has rollouts under `root`, in order. Raises CorruptLog, NewerLog."""
    stages: dict[int, dict[tuple[int, int], RecordedRollout]] = {}
    for one in recorded_rollouts(root):
        if one.stage.isdigit():
            stages.setdefault(int(one.stage), {})[one.task, one.sibling] = one
    for number, places in sorted(stages.items()):
        if num_forgotten := sum(one.forgotten for one in places.values()):
            yield Rebuilt(number, None, num_forgotten)
        else:
            in_order = [places[place] for place in sorted(places)]
            groups = [_group([one.trajectory for one in of_task]) for _, of_task in groupby(in_order, lambda one: one.task)]
            yield Rebuilt(number, batch_of(groups, config, number, alias=alias, window=window), 0)


def _group(trajectories: list[Trajectory]) -> TrajectoryGroup:
    return TrajectoryGroup(task_id=trajectories[0].session, trajectories=trajectories)


def _sha256(samples: Sequence[Sample]) -> str:
    digest = sha256()
    for one in samples:
        sizes = (len(one.prompt_ids), len(one.completion_ids))
        digest.update(json.dumps([one.trajectory_id, one.step, one.policy, one.count, *sizes]).encode())
        digest.update(np.asarray([*one.prompt_ids, *one.completion_ids], dtype="<i8").tobytes())
        digest.update(np.asarray([one.advantage, *one.logprobs], dtype="<f8").tobytes())
    return digest.hexdigest()
