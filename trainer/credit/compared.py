"""How values of siblings are compared: less their mean, all together or step by step at the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recollect.trajectory import Trajectory

EPSILON = 1e-6
"""What values may differ by and still be equal."""


class Place(NamedTuple):
    """Where a step stands in its trajectory: the role of its module, and how many steps of that role ended before it."""

    role: str
    position: int


def flat(values: Sequence[float]) -> bool:
    """True if the values are all alike, or none, so that nothing tells them apart."""
    return not values or _deviation(values) < EPSILON


def centred(values: Sequence[float], *, scale_by_std: bool) -> list[float]:
    """Each value less their mean, optionally over their standard deviation; all 0 where the values are alike."""
    deviation = _deviation(values)
    if deviation < EPSILON:
        return [0.0] * len(values)
    mean = sum(values) / len(values)
    return [(value - mean) / (deviation if scale_by_std else 1.0) for value in values]


def places(trajectory: Trajectory) -> dict[int, Place]:
    """The place of each step that did not fail, by its index."""
    found: dict[int, Place] = {}
    counts: dict[str, int] = {}
    for step in trajectory.steps:
        if step.error is None:
            found[step.index] = Place(step.role, counts.get(step.role, 0))
            counts[step.role] = counts.get(step.role, 0) + 1
    return found


class Compared(NamedTuple):
    """By sibling the advantage of each step that could be compared, and how many stood alone at their place."""

    advantages: list[dict[int, float]]
    num_alone: int


def by_place(trajectories: Sequence[Trajectory], values: Sequence[Mapping[int, float]], *, scale_by_std: bool) -> Compared:
    """Compare the values of steps, by their index, with those of the siblings' steps at the same place."""
    members: dict[Place, list[tuple[int, int]]] = {}
    for number, (trajectory, of_steps) in enumerate(zip(trajectories, values, strict=True)):
        where = places(trajectory)
        for index in of_steps:
            if index in where:
                members.setdefault(where[index], []).append((number, index))
    advantages: list[dict[int, float]] = [{} for _ in trajectories]
    for steps in members.values():
        if len(steps) > 1:
            found = centred([values[number][index] for number, index in steps], scale_by_std=scale_by_std)
            for (number, index), advantage in zip(steps, found, strict=True):
                advantages[number][index] = advantage
    return Compared(advantages, sum(len(steps) == 1 for steps in members.values()))


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
