"""`recollect usage`: who used how much."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from recollect.cli_client import Url, ask
from recollect.cli_screen import Screen, harmless

COUNTS = ("requests", "calls", "prompt_tokens", "completion_tokens")


def usage(
    ctx: typer.Context,
    days: Annotated[int, typer.Option(min=1, help="How many days, today included (UTC).")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    url: Url = None,
) -> None:
    """Who used how much: requests, model calls and tokens, by tenant, key and day, as the running server counted them."""
    found = [used.model_dump(mode="json") for used in ask(ctx, url, lambda client: client.usage(days))]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        typer.echo(f"nothing was used in {days} days")
        return
    table = Table("day", "tenant", "key", *(name.replace("_", " ") for name in COUNTS))
    for used in found:
        table.add_row(used["day"], used["tenant"], _key(used), *(f"{used[name]:,}" for name in COUNTS))
    table.add_section()
    table.add_row("all", "", "", *(f"{sum(used[name] for used in found):,}" for name in COUNTS))
    Screen().print(table)


def _key(used: dict[str, str | None]) -> Text:
    return Text(harmless(f"{used['key_name'] or ''} ({used['key_id']})" if used["key_id"] else "none"))
