"""One training iteration (rollouts, rewards, update) and the update alone, against TRL's stock `GRPOTrainer` with transformers generation.

Each side in a process of its own, one after the other. The stock trainer makes one call a sample: it is given the prompts that
Recollect's calls had, those of the first sibling of each task, and generates as often as there are siblings, so that both sides make
as many calls; what they generate is its own. It trains on all of them, Recollect on those of groups whose rewards differ.
Second, a random model of 25 million parameters on prompts of 2,000 tokens: there Recollect makes updates alone.
Threads that spin make either side many times slower beside other work: take these figures on a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.child import told
from benchmarks.figure import Figure, megabytes
from benchmarks.long_prompts import long_prompts, save_model
from benchmarks.scale import number, scaled
from benchmarks.trained import MAX_TOKENS
from recollect.settings import SEED_MODEL
from trainer.config import Optimisation

OURS, STOCK = "benchmarks.iteration_ours", "benchmarks.iteration_stock"
GROUP, SECTIONS = 8, 3
TASKS, MEASURED = 16, 4
"""Of an iteration, as in a run by default, and how many iterations are measured."""
LONG_TOKENS, LONG_COMPLETION, LONG_PROMPTS, LONG_ROWS, LONG_MEASURED = 2_000, 16, 1, 4, 2
"""Of the second part: tokens of a prompt and of a completion, prompts of an update, rows that are computed at once, updates."""


async def run() -> list[Figure]:
    """The seed model first, then the larger one."""
    with tempfile.TemporaryDirectory() as folder:
        return [*await _seed_model(Path(folder)), *await _long_prompts(Path(folder))]


async def _seed_model(place: Path) -> list[Figure]:
    sizes = {"tasks": scaled(TASKS, 2), "measured": scaled(MEASURED), "group": GROUP}
    prompts, ours_at, stock_at = place / "prompts.json", _folder(place, "ours"), _folder(place, "stock")
    ours = await told(OURS, kind="run", prompts=str(prompts), folder=str(ours_at), sections=SECTIONS, **sizes)
    common = {"prompts": str(prompts), "group": GROUP, "max_tokens": MAX_TOKENS, "rows_per_batch": Optimisation().rows_per_batch}
    stock = await told(STOCK, model=str(SEED_MODEL), folder=str(stock_at), **common)
    taken = total(ours["iterations"])
    share = f"{100 * taken['trained'] / taken['calls']:.0f} % of calls, in {number(round(taken['rows']))} rows that differ"
    what = f"seed model, {sizes['tasks']} tasks × {GROUP}, {SECTIONS} sections"
    return [
        *compared(f"{what}: calls a second of an iteration", ours, stock, of="calls", by="seconds"),
        *compared(f"{what}: calls trained on a second of the update", ours, stock, of="trained", by="update_s"),
        Figure(f"{what}: trained on, the others had no variance", share),
        _peaks(what, ours, stock),
        Figure(f"{what}: peak resident of Recollect's engine, sum over its processes", megabytes(ours["engine_peak"])),
    ]


async def _long_prompts(place: Path) -> list[Figure]:
    model, prompts = _folder(place, "model"), place / "long.json"
    num_parameters = await asyncio.to_thread(save_model, model)
    count, measured = LONG_PROMPTS, scaled(LONG_MEASURED)
    made = await asyncio.to_thread(long_prompts, count * measured, LONG_TOKENS)
    prompts.write_text(json.dumps([made[i : i + count] for i in range(0, len(made), count)]))
    common = {"prompts": str(prompts), "model": str(model), "group": GROUP, "max_tokens": LONG_COMPLETION, "rows_per_batch": LONG_ROWS}
    ours = await told(OURS, kind="updates", folder=str(_folder(place, "long-ours")), **common)
    stock = await told(STOCK, folder=str(_folder(place, "long-stock")), **common)
    what = f"{num_parameters / 1e6:.0f} million parameters, {count * GROUP} calls of {number(LONG_TOKENS)} + {LONG_COMPLETION} tokens"
    return [
        *compared(f"{what}: calls a second of the update", ours, stock, of="trained", by="update_s"),
        Figure(f"{what}: calls a second of stock TRL's whole step", f"{rate(stock['iterations'], 'calls', 'seconds'):.2f}"),
        _peaks(what, ours, stock),
    ]


def compared(what: str, ours: Mapping[str, Any], stock: Mapping[str, Any], *, of: str, by: str) -> list[Figure]:
    """Two rates and their ratio."""
    fast, slow = (rate(side["iterations"], of, by) for side in (ours, stock))
    return [
        Figure(f"{what}, Recollect / stock TRL", f"{fast:.2f} / {slow:.2f}"),
        Figure(f"{what}, ratio", f"{fast / slow:.2f}", "≥ 3"),
    ]


def rate(iterations: Sequence[Mapping[str, float]], of: str, by: str) -> float:
    """What all of them came to, divided by the seconds that all of them took."""
    summed = total(iterations)
    return summed[of] / summed[by]


def total(iterations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums of their figures."""
    return {name: sum(one[name] for one in iterations) for name in iterations[0]}


def _peaks(what: str, ours: Mapping[str, Any], stock: Mapping[str, Any]) -> Figure:
    value = f"{megabytes(ours['peak'])} / {megabytes(stock['peak'])}"
    return Figure(f"{what}: peak resident of the trainer's process, Recollect / stock TRL", value)


def _folder(place: Path, name: str) -> Path:
    made = place / name
    made.mkdir()
    return made
