"""What an iteration costs: seconds against tokens, as siblings, sections and their sizes grow one by one. Seed model, real engine.

Groups without variance are rolled out and not trained on, and an untrained model has more of them the longer a document is. So the rollouts
are also told alone, against all tokens, and the update alone, against the tokens of its rows.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import figure as plots

from benchmarks.child import ROOT
from benchmarks.figure import Figure
from benchmarks.scale import number, scaled
from benchmarks.trained import documents, iterations
from recollect.settings import EngineSettings
from server.engines.base import Engine
from server.engines.child import VllmChild
from trainer.pages import svg

TASKS, MEASURED = 8, 3
GROUP, SECTION, SECTIONS = 8, 80, 3
"""Siblings, tokens of a section, and sections, where another of them varies."""
GROUPS, SECTION_SIZES, SECTION_COUNTS = (4, 8, 16), (40, 80, 160, 320), (1, 3, 6)
PLOT = "iteration-cost.svg"


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, and the means of its iterations. `varied` names what differs from the common setting."""

    varied: str
    group: int
    section: int
    sections: int
    tokens: float = 0.0
    seconds: float = 0.0
    rollout_s: float = 0.0
    row_tokens: float = 0.0
    update_s: float = 0.0

    @property
    def setting(self) -> tuple[int, int, int]:
        return self.group, self.section, self.sections


MEANS = ("tokens", "seconds", "rollout_s", "row_tokens", "update_s")
FITS = (
    ("iteration's seconds on tokens", "tokens", "seconds"),
    ("rollouts' seconds on tokens", "tokens", "rollout_s"),
    ("update's seconds on tokens of its rows", "row_tokens", "update_s"),
)


async def run() -> list[Figure]:
    """Each setting is a run of its own on one engine; its first iteration is not counted."""
    found: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = VllmChild(EngineSettings(), Path(folder))
        await engine.start()
        try:
            await engine.ready(600)
            for place, point in enumerate(settings()):
                found.append(await _measured(engine, Path(folder) / f"home-{place}", point))
                print(f"  {_told(found[-1])}: {_cost(found[-1])}", file=sys.stderr, flush=True)
        finally:
            await engine.close()
    target = _target()
    target.write_text(svg(drawn(found)) + "\n", "utf-8")
    return [
        *(Figure(f"an iteration of {scaled(TASKS, 2)} tasks, {_told(point)}", _cost(point)) for point in found),
        *(Figure(f"exponent of the {name}", f"{exponent(found, of, by):.2f}", "≤ 1") for name, of, by in FITS),
        *(
            Figure(f"exponent of the iteration's seconds on tokens, {name} alone", f"{exponent(points):.2f}", "≤ 1")
            for name, points in by_varied(found).items()
        ),
        Figure("plot", str(target.relative_to(ROOT))),
    ]


def settings() -> list[Point]:
    """The common setting once, and from there one thing at a time."""
    points = [Point("", GROUP, SECTION, SECTIONS)]
    points += [Point("siblings", group, SECTION, SECTIONS) for group in GROUPS]
    points += [Point("tokens of a section", GROUP, section, SECTIONS) for section in SECTION_SIZES]
    points += [Point("sections", GROUP, SECTION, sections) for sections in SECTION_COUNTS]
    return [point for point in points if not point.varied or point.setting != points[0].setting]


def by_varied(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points of each line: those where one thing varies, and the common one."""
    names = dict.fromkeys(point.varied for point in points if point.varied)
    return {name: sorted((p for p in points if p.varied in ("", name)), key=lambda p: p.tokens) for name in names}


def exponent(points: Sequence[Point], of: str = "tokens", by: str = "seconds") -> float:
    """The slope of log seconds on log tokens by least squares: 1 is in proportion, above it is faster growth than that of tokens.

    Points that have no such tokens are left out; not a number if fewer than two are left.
    """
    pairs = [(getattr(point, of), getattr(point, by)) for point in points if getattr(point, of) > 0]
    if len(pairs) < 2:
        return float("nan")
    tokens, seconds = np.log(np.array(pairs)).T
    return float(np.polyfit(tokens, seconds, 1)[0])


def drawn(points: Sequence[Point]) -> plots.Figure:
    """Seconds against tokens, both logarithmic, a line for each thing that varies, and the line of proportion."""
    made = plots.Figure(figsize=(7, 4), layout="constrained")
    axes = made.subplots()
    for name, line in by_varied(points).items():
        axes.plot([p.tokens for p in line], [p.seconds for p in line], marker="o", label=f"{name}, exponent {exponent(line):.2f}")
    common, ends = points[0], np.array([min(p.tokens for p in points), max(p.tokens for p in points)])
    axes.plot(ends, common.seconds * ends / common.tokens, color="grey", linestyle="dashed", label="in proportion to tokens")
    axes.set(xscale="log", yscale="log", xlabel="tokens of an iteration", ylabel="seconds of an iteration")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", frameon=False)
    return made


async def _measured(engine: Engine, home: Path, point: Point) -> Point:
    config = documents(tasks=scaled(TASKS, 2), group=point.group, sections=point.sections, measured=scaled(MEASURED))
    found, _ = await iterations(engine, home, config, section_tokens=point.section)
    return replace(point, **{name: float(np.mean([getattr(one, name) for one in found])) for name in MEANS})


def _told(point: Point) -> str:
    return f"{point.group} siblings, {point.sections} sections of {point.section} tokens"


def _cost(point: Point) -> str:
    rate, parts = point.tokens / point.seconds, f"rollouts {point.rollout_s:.2f} s, update {point.update_s:.2f} s"
    return (
        f"{number(round(point.tokens))} tokens, {point.seconds:.2f} s ({parts} for {number(round(point.row_tokens))}), {rate:,.0f} tokens/s"
    )


def _target() -> Path:
    """Beside the documentation at full counts; a rehearsal overwrites nothing there."""
    folder = ROOT / ("docs" if scaled(1000) == 1000 else ".recollect")
    folder.mkdir(exist_ok=True)
    return folder / PLOT
