"""`recollect memory`: the memories of the running server. `cli_memory_search`, `cli_memory_show`, `cli_transfer` hold some commands."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from recollect.cli_audit import audit
from recollect.cli_client import Url, ask
from recollect.cli_forgotten import check_retraining, print_forgotten, retrained
from recollect.cli_memory_search import AsJson, AsOf, Limit, search
from recollect.cli_memory_show import history, show, undo
from recollect.cli_memory_tables import print_records
from recollect.cli_reembed import reembed
from recollect.cli_screen import Screen
from recollect.cli_transfer import Whose, export, import_
from recollect.errors import InvalidRequest
from recollect.memory import Kind

app = typer.Typer(help="The memories of the running server.", no_args_is_help=True, add_completion=False)
for name, command in {
    "search": search,
    "show": show,
    "history": history,
    "undo": undo,
    "export": export,
    "import": import_,
    "audit": audit,
    "reembed": reembed,
}.items():
    app.command(name)(command)


@app.command("list")
def list_(
    ctx: typer.Context,
    namespace: Whose = None,
    limit: Limit = 100,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.", show_default=False)] = None,
    as_of: AsOf = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Current memories, newest first."""
    records = ask(ctx, url, lambda client: client.list_memories(namespace=namespace, limit=limit, kind=kind, as_of=as_of))
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    else:
        print_records(records)


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
        ("waiting for the text index", str(found.not_indexed)),
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
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeat it for several.", show_default=False)] = None,
    importance: Annotated[float | None, typer.Option(min=0, max=1, help="From 0 to 1.", show_default=False)] = None,
    session: Annotated[str | None, typer.Option(help="The session that it is a turn of, if it is episodic.", show_default=False)] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remember a text. Prints its id once it is durable."""
    record = ask(
        ctx,
        url,
        lambda client: client.add_memory(
            text, namespace=namespace, memory_id=memory_id, kind=kind, tags=tag or (), importance=importance, session=session
        ),
    )
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
    retrain: Annotated[bool, typer.Option("--retrain", help="Then train what replaces the adapters that learned from it.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Erase from all files, with every version and every logged trajectory that holds the text, and retire the adapters that learned
    from it. It cannot be undone."""
    if retrain:
        check_retraining(ctx, url)
    if sum(map(bool, (memory_id, session, everything))) != 1:
        raise InvalidRequest("name what to forget with one of --id, --session, --everything", param="id")
    what = f"memory {memory_id}" if memory_id else f"session {session}" if session else "every memory and trajectory"
    if not yes:
        cost = "Versions of adapters that learned from it answer no more, for anybody."
        typer.confirm(f"Forget {what} of {namespace or 'the default namespace'} for good? {cost}", abort=True, err=True)
    found = ask(ctx, url, lambda client: client.forget(namespace=namespace, memory_id=memory_id, session=session, everything=everything))
    outcomes: list[dict[str, Any]] = []
    if not as_json:
        print_forgotten(found, retrain=retrain)
    try:
        if retrain:
            outcomes = retrained(ctx, found)
    finally:  # what was forgotten is told, whatever the training comes to
        if as_json:
            typer.echo(json.dumps(found.model_dump(mode="json") | ({"retrained": outcomes} if retrain else {}), indent=1))
    if not as_json:
        for outcome in outcomes:
            typer.echo(outcome["said"])
    if any(outcome["failed"] for outcome in outcomes):
        raise typer.Exit(1)
