"""Measures the peers, each by its own python in a process of its own. A peer that is not there is a row that says so."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Figure, p50_p95, p50_p99
from benchmarks.load import STDERR
from benchmarks.rows import Rows
from benchmarks.scale import number

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venvs" / "peers" / "bin" / "python"
MISSING = "not measured: .venvs/peers is not there (scripts/setup peers)"
LOADING_S = 1_800.0
"""A peer that has not answered after so long is stopped."""


@dataclass(frozen=True)
class Peer:
    """A module of benchmarks/peers, and a layout of its own that it is asked for."""

    name: str
    module: str
    layout: str = ""


CHROMA = Peer("Chroma (approximate)", "chroma", "collections")
FILTERED = Peer("Chroma (approximate), one collection, filter", "chroma", "filter")
MEM0 = Peer("mem0, local Qdrant", "mem0_oss")
MEM0_CHAT = Peer("mem0 OSS", "mem0_chat")


async def searches(folder: Path, made: Rows, asked: Rows, what: str, *, namespaces: int = 0) -> list[Figure]:
    """Dense search by the peers; neither ranks by words here: Chroma does not, mem0 needs a model from a hub for it."""
    figures: list[Figure] = []
    _write(folder, made, asked)
    truth = _nearest(made, asked, namespaces)
    for peer in (CHROMA, *([FILTERED] if namespaces else []), MEM0):
        found = await told(peer, folder, kind="search", namespaces=namespaces)
        value = found if isinstance(found, str) else f"{p50_p95(np.array(found['seconds']))}, recall {_recall(found['found'], truth):.3f}"
        figures.append(Figure(f"{what}, dense, {peer.name}", value))
    return figures


async def writes(folder: Path, made: Rows, *, clients: int, seconds: float) -> list[Figure]:
    """Single writes from as many threads as our store had tasks."""
    figures: list[Figure] = []
    _write(folder, made, Rows(made.texts[:1], made.vectors[:1]))
    for peer in (CHROMA, MEM0):
        found = await told(peer, folder, kind="writes", clients=clients, seconds=seconds)
        figures.append(Figure(f"{clients} clients, {peer.name}", found if isinstance(found, str) else _written(found)))
    return figures


def _written(told: dict[str, Any]) -> str:
    done, errors = len(told["seconds"]), told["errors"]
    failed = f", {len(errors)} failed: {errors[0]}" if errors else ""
    if not done:
        return f"none of {len(errors)} writes succeeded: {errors[0]}"
    return f"{number(done)} writes, {done / told['wall']:.0f}/s, {p50_p99(np.array(told['seconds']))}{failed}"


async def told(peer: Peer, folder: Path, **job: object) -> dict[str, Any] | str:
    """What the peer printed, or why there is nothing."""
    if not PYTHON.is_file():
        return MISSING
    STDERR.print(f"{job['kind']}: {peer.name} ...")
    process = await asyncio.create_subprocess_exec(
        *(str(PYTHON), "-m", f"benchmarks.peers.{peer.module}", json.dumps({**job, "folder": str(folder), "layout": peer.layout})),
        cwd=ROOT,
        env=_environment(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), LOADING_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"stopped after {LOADING_S:.0f} s"
    if process.returncode:
        return f"failed: {(errors.decode(errors='replace').strip().splitlines() or ['no message'])[-1][:300]}"
    return json.loads(output.decode().strip().splitlines()[-1])


def _environment(folder: Path) -> dict[str, str]:
    """Telemetry off, nothing written to the home, and no way to a network but loopback: else a proxy that is not there."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    nowhere |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    quiet = {"MEM0_TELEMETRY": "False", "ANONYMIZED_TELEMETRY": "False", "MEM0_DIR": str(folder / "mem0"), "HF_HUB_OFFLINE": "1"}
    return os.environ | nowhere | quiet


def _write(folder: Path, made: Rows, asked: Rows) -> None:
    folder.mkdir(exist_ok=True)
    for name, rows in (("", made), ("asked", asked)):
        (folder / f"{name or 'texts'}.json").write_text(json.dumps(rows.texts), "utf-8")
        np.save(folder / f"{name or 'vectors'}.npy", rows.vectors)


def _nearest(made: Rows, asked: Rows, namespaces: int) -> list[set[int]]:
    """The ten rows that are nearest indeed, for every query."""
    size = len(made.texts) // (namespaces or 1)
    found: list[set[int]] = []
    for i, vector in enumerate(asked.vectors):
        start = (i % namespaces) * size if namespaces else 0
        best = np.argsort(made.vectors[start : start + size] @ vector)[-10:]
        found.append({start + int(place) for place in best})
    return found


def _recall(found: list[list[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(set(mine) & right) / len(right) for mine, right in zip(found, truth, strict=False)]))
