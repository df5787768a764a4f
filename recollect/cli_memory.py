"""`recollect memory search|list|stats|history|add|update|delete|forget|export|import`: the memories of the running server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from recollect.cli_audit import audit
from recollect.cli_client import Url, ask
from recollect.cli_reembed import reembed
from recollect.cli_screen import Screen
from recollect.cli_transfer import Whose, export, import_
from recollect.memory import Kind, MemoryRecord, SearchMode

app = typer.Typer(help="The memories of the running server.", no_args_is_help=True, add_completion=False)
app.command("audit")(audit)
app.command("export")(export)
app.command("import")(import_)
app.command()(reembed)
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def search(
    ctx: typer.Context,
    query: str,
    namespace: Whose = None,
    limit: Limit = 10,
    mode: Annotated[SearchMode, typer.Option(help="How to search.")] = "hybrid",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """The best matches, best first."""
    hits = ask(ctx, url, lambda client: client.search_memories(query, namespace=namespace, limit=limit, mode=mode))
    if as_json:
        typer.echo(json.dumps([hit.model_dump(mode="json") for hit in hits], indent=1))
    else:
        _print([hit.record for hit in hits], scores=[hit.score for hit in hits])


@app.command("list")
def list_(ctx: typer.Context, namespace: Whose = None, limit: Limit = 100, url: Url = None, as_json: AsJson = False) -> None:
    """Current memories, newest first."""
    records = ask(ctx, url, lambda client: client.list_memories(namespace=namespace, limit=limit))
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    else:
        _print(records)


@app.command()
def history(ctx: typer.Context, memory_id: str, namespace: Whose = None, url: Url = None, as_json: AsJson = False) -> None:
    """Every version of one memory, oldest first."""
    versions = ask(ctx, url, lambda client: client.history(memory_id, namespace=namespace))
    if as_json:
        typer.echo(json.dumps([version.model_dump(mode="json") for version in versions], indent=1))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("seq", "time", "until", "text"):
        shown.add_column(name, overflow="fold")
    for version in versions:
        until = "now" if version.seq_to is None else str(version.seq_to)
        shown.add_row(str(version.seq_from), version.created_at.isoformat(" ", "minutes")[:16], until, Text(version.text))
    Screen().print(shown)


@app.command()
def stats(ctx: typer.Context, namespace: Whose = None, url: Url = None, as_json: AsJson = False) -> None:
    """How many memories there are, what waits for the embedder, and what the files take."""
    found = ask(ctx, url, lambda client: client.memory_stats(namespace=namespace))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.by_kind.items()))
    shown = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (
        ("memories", f"{found.memories} ({kinds})" if kinds else "0"),
        ("versions of memories", str(found.versions)),
        ("waiting for a vector", str(found.without_vector)),
        ("last seq", str(found.seq)),
        ("on disk", f"{found.bytes / 2**20:.2f} MiB in {found.fragments} fragments, {found.table_versions} table versions"),
    ):
        shown.add_row(name, value)
    Screen().print(shown)


@app.command()
def add(
    ctx: typer.Context,
    text: str,
    namespace: Whose = None,
    memory_id: Annotated[str | None, typer.Option("--id", help="An id of your choice: repeating is harmless.", show_default=False)] = None,
    kind: Annotated[Kind, typer.Option(help="What kind of memory it is.")] = "semantic",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remember a text. Prints its id once it is durable."""
    record = ask(ctx, url, lambda client: client.add_memory(text, namespace=namespace, memory_id=memory_id, kind=kind))
    typer.echo(record.model_dump_json(indent=1) if as_json else record.id)


@app.command()
def update(
    ctx: typer.Context,
    memory_id: str,
    text: str,
    namespace: Whose = None,
    if_seq: Annotated[int | None, typer.Option(help="Only if the current version is of this seq.", show_default=False)] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a memory a new text; the old version stays in its history."""
    record = ask(ctx, url, lambda client: client.update_memory(memory_id, text, namespace=namespace, if_seq=if_seq))
    typer.echo(record.model_dump_json(indent=1) if as_json else f"updated {record.id}, seq {record.seq_from}")


@app.command()
def delete(ctx: typer.Context, memory_id: str, namespace: Whose = None, url: Url = None, as_json: AsJson = False) -> None:
    """Delete one memory."""
    ask(ctx, url, lambda client: client.delete_memory(memory_id, namespace=namespace))
    typer.echo(json.dumps({"id": memory_id, "deleted": True}) if as_json else f"deleted {memory_id}")


@app.command()
def forget(
    ctx: typer.Context,
    namespace: Whose = None,
    memory_id: Annotated[str | None, typer.Option("--id", help="One memory, in all its versions.", show_default=False)] = None,
    session: Annotated[str | None, typer.Option(help="One session and what was remembered of it.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of --namespace.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Erase from all files, with every version and every logged trajectory that holds the text. It cannot be undone."""
    what = f"memory {memory_id}" if memory_id else f"session {session}" if session else "everything"
    if not yes:
        typer.confirm(f"Forget {what} of {namespace or 'the default namespace'} for good?", abort=True, err=True)
    found = ask(ctx, url, lambda client: client.forget(namespace=namespace, memory_id=memory_id, session=session, everything=everything))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(f"forgotten: {found.memories} memories in {found.versions} versions, {found.trajectories} trajectories")
    typer.echo(f"verified: {found.verified}")
    if found.adapters:
        typer.echo(f"trained on it, and still served: {', '.join(found.adapters)} (`recollect adapters rollback`, then train again)")


def _print(records: Sequence[MemoryRecord], scores: Sequence[float] | None = None) -> None:
    if not records:
        typer.echo("no memories found")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "time", *(("score",) if scores else ()), "text"):
        shown.add_column(name, overflow="fold")
    for index, record in enumerate(records):
        score = (f"{scores[index]:.3f}",) if scores else ()
        time = record.created_at.isoformat(" ", "minutes")[:16]
        shown.add_row(Text(record.id, style="cyan"), time, *score, Text(record.text))
    Screen().print(shown)
