"""`recollect memory export|import`: memories as files, ours and those of other systems."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from recollect.cli_client import Url, ask
from recollect.cli_progress import progress
from recollect.errors import InvalidRequest
from recollect.log_files import replacing
from recollect.memory import MemoryRecord

if TYPE_CHECKING:
    from clients.client import RecollectClient
    from clients.import_formats import Imported

BATCH = 200
SHOWN = 500
"""Memories between two steps of the progress bar."""
Whose = Annotated[str | None, typer.Option(help="Whose memories: user/42 or user/42:agent/coach.", show_default=False)]


def export(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="The file to write: Parquet if it ends in .parquet, else JSON lines; default: standard output.", show_default=False
        ),
    ] = None,
    namespace: Whose = None,
    url: Url = None,
) -> None:
    """Write all current memories, oldest first: as JSON lines, or as Parquet, one column a field."""

    async def call(client: RecollectClient) -> int:
        records = client.export_memories(namespace=namespace)
        if out is None:
            lines = [record.model_dump_json() + "\n" async for record in records]
            sys.stdout.writelines(lines)  # only when all of it is there
            return len(lines)
        total = (await client.memory_stats(namespace=namespace)).memories
        with progress() as step, _whole(out) as file:
            return await _write(out, file, records, lambda done: step("exporting", done, max(done, total)))

    count = ask(ctx, url, call)
    typer.echo(f"{count} memories written{f' to {out}' if out else ''}", err=True)


def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="Our own export (also .parquet), mem0's, the MCP memory server's JSON lines, or a folder of Markdown.")
    ],
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
    with progress() as step:
        for start in range(0, len(memories), BATCH):
            step("importing", start, len(memories))
            await client.add_memories(memories[start : start + BATCH], namespace=namespace)


async def _write(out: Path, file: BinaryIO, records: AsyncIterable[MemoryRecord], advance: Callable[[int], None]) -> int:
    from clients import parquet

    if out.suffix.lower() == parquet.PARQUET:
        return await parquet.write(file, records, advance)
    count = 0
    async for record in records:
        file.write(record.model_dump_json().encode() + b"\n")
        count += 1
        if count % SHOWN == 0:
            advance(count)
    return count


@contextmanager
def _whole(out: Path) -> Generator[BinaryIO]:
    """The file, which is there when all of it is: an older export is not lost to a failure. A device or pipe is written as it is."""
    try:
        if out.exists() and not out.is_file():
            with out.open("wb") as file:
                yield file
        else:
            with replacing(out.resolve()) as file:  # through a link, which stays
                yield file
    except OSError as exc:
        raise InvalidRequest(f"{out} cannot be written: {exc.strerror or exc}", param="out") from exc
