"""What an evaluation found: its cells and its comparisons, worked out from its folder alone."""

from __future__ import annotations

from recollect.errors import NotFound
from recollect.model import Frozen
from trainer.suites.compare import Comparison, compare, pairs, within
from trainer.suites.contender import Contender
from trainer.suites.results import Result, ResultFolder
from trainer.suites.scores import Cell, Telling, cell, groups, telling_of
from trainer.suites.suite import Suite


class Summary(Frozen):
    """`num_total` runs were wanted, `num_runs` were made. Comparisons are with the first contender."""

    suite: str
    about: str
    columns: tuple[str, ...]
    repeats: int
    num_total: int
    num_runs: int
    cells: tuple[Cell, ...]
    tellings: tuple[Telling, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def num_failed(self) -> int:
        """Runs that failed, all contenders together."""
        return sum(one.num_failed for one in self.cells if one.group == "all")


def summarise(folder: ResultFolder) -> Summary:
    """The summary of a folder, finished or not."""
    config, suite = folder.config, _suite(folder)
    results, columns, known = _in_order(folder.results(), suite), tuple(config["suite"]["metrics"]), _contenders(folder)
    return Summary(
        suite=suite.name,
        about=suite.about,
        columns=columns,
        repeats=suite.repeats,
        num_total=config["num_runs"],
        num_runs=len(results),
        cells=tuple(cell(results, one, group, columns) for group in groups(results, suite.by) for one in known),
        tellings=tuple(telling for one in known if (telling := telling_of(folder.told(), one))),
        comparisons=tuple(within(results, known, columns, suite.by)),
    )


def compared(before: ResultFolder, after: ResultFolder, names: tuple[str, str] = ("", "")) -> list[Comparison]:
    """The contenders of two folders that belong together; a name picks one of a folder. Raises ConfigurationError, NotFound."""
    columns = [column for column in _suite(before).metrics if column in _suite(after).metrics]
    sides = [_chosen(folder, name) for folder, name in zip((before, after), names, strict=True)]
    results = _in_order(before.results(), _suite(before)), _in_order(after.results(), _suite(after))
    picked = [(sides[0][0], sides[1][0])] if all(names) else pairs(*sides)
    return [
        comparison
        for one, other in picked
        for comparison in compare(
            _of(results[0], one),
            _of(results[1], other),
            names=(_label(before, one), _label(after, other)),
            columns=columns,
            by=_suite(before).by,
        )
    ]


def _suite(folder: ResultFolder) -> Suite:
    return Suite.model_validate(folder.config["suite"])


def _contenders(folder: ResultFolder) -> list[Contender]:
    return [Contender(*one) for one in folder.config["contenders"]]


def _in_order(results: list[Result], suite: Suite) -> list[Result]:
    """By the sets of the suite, then by task: reports do not depend on which run ended first."""
    places = {one.name: place for place, one in enumerate(suite.sets)}
    return sorted(results, key=lambda result: (places.get(result.labels.get("set", ""), len(places)), result.task))


def _chosen(folder: ResultFolder, name: str) -> list[Contender]:
    known = _contenders(folder)
    if not name:
        return known
    found = [one for one in known if one.name == name]
    if not found:
        raise NotFound(f"{folder.path} has no contender {name!r}; it has: {', '.join(one.name for one in known)}", param="compare")
    return found


def _of(results: list[Result], contender: Contender) -> list[Result]:
    return [result for result in results if result.contender == contender]


def _label(folder: ResultFolder, contender: Contender) -> str:
    return f"{folder.path.name}#{contender.name}"
