"""`recollect demo --nightly`: days of traffic with feedback, nights of learning, one of them on feedback that somebody sabotaged."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from trainer.demo.serving import Serving
from trainer.demo.story import DemoFailed, ProgressBar, Sizes, drawn, prepared_embedder
from trainer.demo.summary import share
from trainer.demo.users import Asked, give_feedback, live_all
from trainer.environments.tasks import Task
from trainer.evaluate import Difference, paired_difference
from trainer.nightly import PUBLISHED, REFUSED

NIGHTS = 2
OWN = ("iterations=16", "gate.regression_tasks=300", "--nice", "0")
"""Of the nights: shorter than the default ones, and measured on more tasks, so that a small gain can be told from none."""
ONLY_THE_LOG = "min_logged_share=1"
"""The sabotaged night learns from the sabotaged day alone: honest generated tasks beside it would hide what it does."""


@dataclass(frozen=True, slots=True)
class Nights:
    """One home's days and nights: the answers to the same questions before them and after each, and what was told of the nights."""

    seed: int
    exams: list[list[Asked]]
    reports: list[dict[str, Any]]
    sabotaged: dict[str, Any]
    rollback_s: float

    @property
    def accuracies(self) -> list[float]:
        """Through the served endpoint: before, and after each night."""
        return [share(exam) for exam in self.exams]


async def tell_nights(
    place: Path,
    sizes: Sizes,
    seeds: int,
    console: Console,
    *,
    progress: ProgressBar,
    train_overrides: Sequence[str],
    serve_overrides: Sequence[str],
) -> dict[str, Any]:
    """The days and nights of each seed, in a home of its own; the figures. Raises RecollectError naming the part that failed."""
    settings = ["agents.writing=operations", *serve_overrides]
    if not any(override.startswith("embedder.") for override in serve_overrides):
        settings.append(f"embedder.model={await prepared_embedder(place.parent, console)}")
    told = [
        await _nights(place / f"seed-{seed}", sizes, seed, console, progress=progress, settings=settings, overrides=train_overrides)
        for seed in range(seeds)
    ]
    figures = _figures(told)
    _show(console, told, figures)
    if failed := _failed(figures):
        raise DemoFailed(f"nights: {failed}")
    return figures


async def _nights(
    home: Path, sizes: Sizes, seed: int, console: Console, *, progress: ProgressBar, settings: Sequence[str], overrides: Sequence[str]
) -> Nights:
    serving = Serving(home, list(settings))
    own = [*settings, f"seed={seed}", *overrides]
    try:
        console.rule(f"[bold]Seed {seed}: serve[/]")
        with progress("loading", None) as show:
            await asyncio.to_thread(serving.start, show)
        questions = drawn(sizes.held_out // 2, sizes.held_out - sizes.held_out // 2, "held_out", name=f"exam-{seed}")
        exams = [await _asked(serving, questions, "exam-0", "held-out questions before the first night", progress)]
        reports: list[dict[str, Any]] = []
        versions: list[int | None] = [None]
        for number in range(1, NIGHTS + 1):
            console.rule(f"[bold]Seed {seed}: day and night {number}[/]")
            await _day(serving, sizes, f"day-{seed}-{number}", console, progress)
            code, report = await _night(home, own)
            console.print(report["said"])
            if code not in (PUBLISHED, REFUSED):
                raise DemoFailed(f"night {number} of seed {seed} ended with status {code}: {report['said']}")
            versions += [report["version"]] if report["version"] else []
            await _answering(serving, versions[-1])
            reports.append(report)
            exams.append(await _asked(serving, questions, f"exam-{number}", f"the same questions after night {number}", progress))
        console.rule(f"[bold]Seed {seed}: a day of sabotaged feedback, and its night[/]")
        await _day(serving, sizes, f"day-{seed}-sabotaged", console, progress, sabotaged=True)
        code, sabotaged = await _night(home, [*own, ONLY_THE_LOG])
        console.print(sabotaged["said"])
        if code != REFUSED or not sabotaged["quarantined"]:
            raise DemoFailed(f"the sabotaged night of seed {seed} ended with status {code}: {sabotaged['said']}")
        await _answering(serving, versions[-1])
        if len(versions) == 1:
            raise DemoFailed(f"no night of seed {seed} published a version")
        rollback_s = await _rolled_back(home, serving, versions[-2])
        console.print(f"`recollect adapters rollback memory` took {rollback_s:.2f} s")
        return Nights(seed, exams, reports, sabotaged, rollback_s)
    finally:
        await asyncio.to_thread(serving.stop)


async def _day(serving: Serving, sizes: Sizes, name: str, console: Console, progress: ProgressBar, *, sabotaged: bool = False) -> None:
    """Users talk and ask, and say of each answer what is right; of a sabotaged day, what is wrong."""
    tasks = drawn(sizes.dialogues, sizes.documents, "train", name=name)
    asked = await _asked(serving, tasks, name, f"{len(tasks)} users", progress)
    accepted, corrected = await give_feedback(serving.url, asked, sabotaged=sabotaged)
    console.print(f"{share(asked):.2f} of the answers were right; {accepted} were accepted, {corrected} corrected")


async def _asked(serving: Serving, tasks: Sequence[Task], prefix: str, title: str, progress: ProgressBar) -> list[Asked]:
    with progress(title, len(tasks)) as advance:
        return await live_all(serving.url, tasks, prefix, advance)


async def _night(home: Path, overrides: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """`recollect nightly` as a process of its own: its exit code, and its report. Raises DemoFailed if it said nothing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(home), "nightly", "--json", *OWN, *overrides),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    try:
        return process.returncode or 0, json.loads(out)
    except json.JSONDecodeError as exc:
        raise DemoFailed(f"`recollect nightly` ended with status {process.returncode} and no report") from exc


async def _answering(serving: Serving, version: int | None) -> None:
    """Wait until requests are answered by that version; None: by the base model."""
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        for _ in range(300):
            states = (await http.get("/v1/admin/adapters")).json()["data"]
            serves = next((state["serving"] for state in states if state["policy"] == "memory"), "")
            if serves and serves.partition("@")[2] == (f"v{version}" if version else ""):
                return
            await asyncio.sleep(0.1)
    raise DemoFailed(f"memory@{f'v{version}' if version else 'base'} does not answer after 30 s")


async def _rolled_back(home: Path, serving: Serving, version: int | None) -> float:
    """Seconds of the one command that restores the version before, its start included; it must answer then."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(home), "adapters", "rollback", "memory"), stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise DemoFailed("`recollect adapters rollback memory` failed")
    seconds = time.perf_counter() - began
    await _answering(serving, version)
    return seconds


def _figures(told: Sequence[Nights]) -> dict[str, Any]:
    """Of all seeds together: the mean accuracy before and after each night, and the paired difference of the last night to before."""
    before, last = ([float(one.right) for nights in told for one in nights.exams[place]] for place in (0, -1))
    difference = paired_difference(before, last)
    return {
        "seeds": [nights.seed for nights in told],
        "accuracy": [sum(values) / len(told) for values in zip(*(nights.accuracies for nights in told), strict=True)],
        "by_seed": [nights.accuracies for nights in told],
        "difference": difference._asdict() if difference else None,
        "nights": [[_told(report) for report in (*nights.reports, nights.sabotaged)] for nights in told],
        "rollback_s": [nights.rollback_s for nights in told],
    }


def _cell(accuracy: float, report: dict[str, Any]) -> str:
    return f"{accuracy:.3f}" if report["version"] else f"{accuracy:.3f} (quarantined)"


def _told(report: dict[str, Any]) -> dict[str, Any]:
    names = ("said", "run", "version", "refusal", "difference", "difference_low", "difference_high", "gate", "seconds", "calls_per_s")
    return {name: report.get(name) for name in names}


def _failed(figures: dict[str, Any]) -> str | None:
    """What was to be seen and was not."""
    accuracy = figures["accuracy"]
    if any(after <= before for before, after in pairwise(accuracy)):
        return f"the mean accuracy did not rise each night: {', '.join(f'{value:.3f}' for value in accuracy)}"
    if Difference(**figures["difference"]).low <= 0:
        return "the interval of the last night's difference to before does not exclude 0"
    return None


def _show(console: Console, told: Sequence[Nights], figures: dict[str, Any]) -> None:
    console.rule("[bold]What was learned, night by night[/]")
    headers = ["before", *(f"night {number}" for number in range(1, NIGHTS + 1))]
    table = Table("held-out questions", *headers, "sabotaged night", "rollback")
    for nights in told:
        row = [f"{nights.accuracies[0]:.3f}", *(_cell(*night) for night in zip(nights.accuracies[1:], nights.reports, strict=True))]
        table.add_row(f"seed {nights.seed}", *row, "quarantined", f"{nights.rollback_s:.2f} s")
    table.add_row("mean", *(f"{value:.3f}" for value in figures["accuracy"]), "", "")
    console.print(table)
    difference = Difference(**figures["difference"])
    console.print(
        f"After night {NIGHTS} against before, paired over {difference.num_pairs} questions: {difference.mean:+.3f}, "
        f"95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    )
