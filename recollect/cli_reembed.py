"""`recollect memory reembed`: after a change of the embedder, vectors are made anew while the server goes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recollect.cli_client import Url, ask
from recollect.cli_transfer import Whose

if TYPE_CHECKING:
    from clients.client import RecollectClient

POLL_S = 0.5


def reembed(
    ctx: typer.Context,
    namespace: Whose = None,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the vectors of a namespace, or of all, with the embedder in use. It goes on in the server when this is interrupted."""
    done = ask(ctx, url, lambda client: _watched(client, namespace))
    shown = f"{sum(done.values())} memories of {len(done)} namespaces have new vectors"
    typer.echo(json.dumps(done) if as_json else shown)


async def _watched(client: RecollectClient, namespace: str | None) -> dict[str, int]:
    """How many memories of each namespace got new vectors, once all have them."""
    waiting = await client.reembed(namespace=namespace)
    columns = (TextColumn("reembedding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("reembedding", total=sum(waiting.values()))
        left = {whose: count for whose, count in waiting.items() if count}
        while left:
            await asyncio.sleep(POLL_S)
            left = {whose: (await client.memory_stats(namespace=whose)).without_vector for whose in left}
            left = {whose: count for whose, count in left.items() if count}
            progress.update(bar, completed=sum(waiting.values()) - sum(left.values()))
    return waiting
