"""An audit as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from recollect.audit import Audit, DuplicateGroup, Loops, Shown, Sizes, Unused
from recollect.cli_screen import Screen

Cell = str | Text


def show(found: Audit, limit: int) -> None:
    """Print it, the most urgent findings first, at most `limit` of each sort."""
    screen, store = Screen(), found.store
    screen.print(f"{store.memories} memories of {found.namespace} audited in {found.seconds:.1f} s", style="bold")
    secrets = [(Text(s.id), ", ".join(s.kinds), ", ".join(s.places), "yes" if s.current else "no") for s in store.secrets]
    _section(screen, "secrets", len(secrets), ("id", "kind", "in", "current"), secrets[:limit])
    loops = [(*_cells(loop.memory), loop.reason, Text(loop.source or "")) for loop in found.loops.found]
    _section(screen, "recall loops", found.loops.count, ("id", "text", "why", "source"), loops[:limit], _traced(found.loops))
    head = ("", "id", "text", "cosine")
    _section(screen, "groups of exact duplicates", len(store.exact), head, _groups(store.exact[:limit]))
    untold = f"{store.without_vector} memories without a vector were not compared" if store.without_vector else ""
    _section(screen, "groups of near duplicates", store.near_count, head, _groups(store.near[:limit]), untold)
    pairs = [
        (side, *_cells(memory), pair.differ_in if side == "newer" else "", f"{memory.at:%Y-%m-%d}")
        for pair in store.contradictions[:limit]
        for side, memory in (("newer", pair.newer), ("older", pair.older))
    ]
    _section(screen, "possible contradictions", store.contradictions_count, ("", "id", "text", "differ in", "of"), pairs)
    unused = [(*_cells(memory), f"{memory.at:%Y-%m-%d}") for memory in found.unused.memories[:limit]]
    _section(screen, "never retrieved", found.unused.count, ("id", "text", "of"), unused, _judged(found.unused))
    _sizes(screen, store.sizes)
    if found.corrupt_lines:
        screen.print(f"{found.corrupt_lines} lines of the log could not be read", style="red")


def _section(screen: Screen, title: str, count: int, head: Iterable[str], rows: Iterable[tuple[Cell, ...]], note: str = "") -> None:
    screen.print()
    screen.print(f"{count} {title}" + (f" ({note})" if note else ""), style="bold yellow" if count else "bold")
    if count:
        _table(screen, head, rows)


def _table(screen: Screen, head: Iterable[str], rows: Iterable[tuple[Cell, ...]]) -> None:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    screen.print(shown)


def _cells(memory: Shown) -> tuple[Cell, Cell]:
    """Its id and its text, as text and not as markup."""
    text = Text("(holds a secret)", style="dim") if memory.text is None else Text(" ".join(memory.text.split()))
    return Text(memory.id, style="cyan"), text


def _groups(groups: Iterable[DuplicateGroup]) -> Iterable[tuple[Cell, ...]]:
    for group in groups:
        yield "stays", *_cells(group.stays), ""
        for other in group.others:
            yield "again", *_cells(other.memory), "" if other.cosine is None else f"{other.cosine:.3f}"


def _traced(found: Loops) -> str:
    return f"{found.traced} memories traced in the log, {found.untraced} whose trajectory it does not hold"


def _judged(found: Unused) -> str:
    log = f"the log has {found.trajectories} trajectories and goes back {found.log_days:.1f} days"
    return f"older than {found.days} days; {log}" if found.judged else f"not judged: {log}, fewer than {found.days}"


def _sizes(screen: Screen, found: Sizes) -> None:
    screen.print()
    screen.print(f"sizes ({found.versions} versions)", style="bold")
    _table(screen, ("kind", "memories", "bytes"), ((size.kind, str(size.memories), str(size.bytes)) for size in found.by_kind))
    if found.largest:
        _table(screen, ("largest", "text", "bytes"), ((*_cells(size.memory), str(size.bytes)) for size in found.largest[:3]))
    if found.most_versions:
        _table(screen, ("most versions", "text", "versions"), ((*_cells(v.memory), str(v.versions)) for v in found.most_versions[:3]))
