"""`recollect memory show|history|undo`: one memory, its past, and back to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli_client import Url, ask
from recollect.cli_memory_search import AsJson, AsOf
from recollect.cli_memory_tables import print_versions, print_whole
from recollect.cli_transfer import Whose
from recollect.memory import MemoryRecord

if TYPE_CHECKING:
    from clients.client import RecollectClient


def show(
    ctx: typer.Context,
    memory_id: str,
    namespace: Whose = None,
    reach: Annotated[int, typer.Option(min=0, max=20, help="So many of its session before and after it.")] = 2,
    as_of: AsOf = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Everything about one memory, and what stands around it in its session."""

    async def call(client: RecollectClient) -> tuple[MemoryRecord, list[MemoryRecord]]:
        record = await client.get_memory(memory_id, namespace=namespace, as_of=as_of)
        return record, await client.neighbours(memory_id, namespace=namespace, reach=reach, as_of=as_of)

    record, around = ask(ctx, url, call)
    if as_json:
        told = {"memory": record.model_dump(mode="json"), "neighbours": [one.model_dump(mode="json") for one in around]}
        typer.echo(json.dumps(told, indent=1))
    else:
        print_whole(record, around)


def history(ctx: typer.Context, memory_id: str, namespace: Whose = None, url: Url = None, as_json: AsJson = False) -> None:
    """Every version of one memory, oldest first."""
    versions = ask(ctx, url, lambda client: client.history(memory_id, namespace=namespace))
    if as_json:
        typer.echo(json.dumps([version.model_dump(mode="json") for version in versions], indent=1))
    else:
        print_versions(versions)


def undo(ctx: typer.Context, memory_id: str, namespace: Whose = None, url: Url = None, as_json: AsJson = False) -> None:
    """Take the last change of a memory back, as a new version; a deleted one comes back as it was."""
    record = ask(ctx, url, lambda client: client.undo(memory_id, namespace=namespace))
    typer.echo(record.model_dump_json(indent=1) if as_json else f"undone {record.id}, seq {record.seq_from}")
