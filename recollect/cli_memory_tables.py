"""Memories as tables for a terminal. What somebody wrote into one is printed on a Screen, which it cannot steer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from rich.table import Table
from rich.text import Text

from recollect.cli_screen import Screen
from recollect.memory import MemoryRecord, SearchHit, about


def print_records(records: Sequence[MemoryRecord]) -> None:
    """Memories with the time that each was stored."""
    shown = _table("id", "stored", "text")
    for record in records:
        shown.add_row(_id(record), minute(record.created_at), _told(record))
    _print(shown, len(records))


def print_hits(hits: Sequence[SearchHit]) -> None:
    """Hits with the time that each is about; what stands around one is dim, in its place."""
    shown = _table("id", "about", "score", "text")
    for number, hit in enumerate(hits):
        around = hit.context
        if number and around:
            shown.add_row()
        for record in around.before if around else ():
            shown.add_row(*_aside(record))
        shown.add_row(_id(hit.record), minute(about(hit.record)), f"{hit.score:.3f}", _told(hit.record))
        for record in around.after if around else ():
            shown.add_row(*_aside(record))
    _print(shown, len(hits))


def print_versions(versions: Sequence[MemoryRecord]) -> None:
    """The versions of one memory with the `seq` that began and ended each."""
    shown = _table("seq", "time", "until", "text")
    for version in versions:
        until = "now" if version.seq_to is None else str(version.seq_to)
        shown.add_row(str(version.seq_from), minute(version.created_at), until, _told(version))
    _print(shown, len(versions))


def print_whole(record: MemoryRecord, around: Sequence[MemoryRecord]) -> None:
    """Every field of a memory that says something, then its session around it."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in _fields(record):
        if value:
            shown.add_row(name, Text(value))
    screen = Screen()
    screen.print(shown)
    if len(around) > 1:
        screen.print()
        talk = _table("", "in its session", "text")
        for one in around:
            mine = one.id == record.id
            talk.add_row("▸" if mine else "", _id(one), Text(one.text, style="bold" if mine else ""))
        screen.print(talk)


def minute(moment: datetime) -> str:
    """A time to the minute, in UTC."""
    return moment.astimezone(UTC).isoformat(" ", "minutes")[:16]


def _fields(record: MemoryRecord) -> Sequence[tuple[str, str]]:
    by = record.provenance
    step = f", step {by.step} of trajectory {by.trajectory_id}" if by.trajectory_id else ""
    ended = "" if record.seq_to is None else f", until seq {record.seq_to}"
    return (
        ("id", record.id),
        ("namespace", record.namespace),
        ("text", record.text),
        ("kind", record.kind),
        ("tags", ", ".join(record.tags)),
        ("importance", "" if record.importance is None else f"{record.importance:g}"),
        ("trust", record.trust),
        ("true from", minute(record.valid_at) if record.valid_at else ""),
        ("true until", minute(record.invalid_at) if record.invalid_at else ""),
        ("stored", f"{minute(record.created_at)}, seq {record.seq_from}{ended}"),
        ("written by", f"{by.channel}{step}"),
        ("session", by.session or ""),
        ("metadata", "\n".join(f"{name}: {value}" for name, value in sorted(record.metadata.items()))),
        ("sha256", record.content_hash),
    )


def _table(*names: str) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        shown.add_column(name, overflow="fold", no_wrap=name == "id")  # an id is there to be copied
    return shown


def _print(shown: Table, count: int) -> None:
    if count:
        Screen().print(shown)
    else:
        typer.echo("no memories found here; another namespace: --namespace user/NAME")


def _id(record: MemoryRecord) -> Text:
    return Text(record.id, style="cyan")


def _told(record: MemoryRecord) -> Text:
    return Text.assemble(record.text, *((f"  #{tag}", "dim") for tag in record.tags))


def _aside(record: MemoryRecord) -> tuple[Text, ...]:
    return (Text(record.id, style="dim"), Text(minute(about(record)), style="dim"), Text(""), Text(record.text, style="dim"))
