"""`recollect memory export|import`: memories as files, ours and those of other systems."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recollect.cli_client import Url, ask

if TYPE_CHECKING:
    from clients.client import RecollectClient
    from clients.import_formats import Imported

BATCH = 200
Whose = Annotated[str | None, typer.Option(help="Whose memories: user/42 or user/42:agent/coach.", show_default=False)]


def export(
    ctx: typer.Context,
    out: Annotated[Path | None, typer.Argument(help="The file to write; default: standard output.", show_default=False)] = None,
    namespace: Whose = None,
    url: Url = None,
) -> None:
    """Write all current memories as JSON lines, oldest first."""

    async def call(client: RecollectClient) -> list[str]:
        return [record.model_dump_json() + "\n" async for record in client.export_memories(namespace=namespace)]

    lines = ask(ctx, url, call)
    if out is None:
        sys.stdout.writelines(lines)
    else:  # only when all of it is there: an older export is not lost to a failure
        out.write_text("".join(lines), "utf-8")
    typer.echo(f"{len(lines)} memories written{f' to {out}' if out else ''}", err=True)


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Our own export, mem0's, the MCP memory server's JSON lines, or a folder of Markdown.")],
    namespace: Whose = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add the memories of a file. Importing it again adds nothing."""
    from clients.import_formats import read_memories

    memories = read_memories(file)
    if dry_run:
        typer.echo(json.dumps([memory.model_dump(mode="json") for memory in memories], indent=1, ensure_ascii=False))
        return

    async def call(client: RecollectClient) -> None:
        await _add(client, memories, namespace)

    ask(ctx, url, call)
    typer.echo(json.dumps({"imported": len(memories)}) if as_json else f"{len(memories)} memories are there")


async def _add(client: RecollectClient, memories: list[Imported], namespace: str | None) -> None:
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("importing", total=len(memories))
        for start in range(0, len(memories), BATCH):
            batch = memories[start : start + BATCH]
            await client.add_memories(batch, namespace=namespace)
            progress.advance(bar, len(batch))
