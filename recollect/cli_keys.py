"""`recollect keys create|list|revoke`: who may ask the server, for whose memories, and for what."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from recollect.cli_screen import Screen, harmless
from recollect.errors import InvalidRequest
from recollect.invocation import Invocation
from recollect.keys import SCOPES, Key, KeyRing, Scope
from recollect.memory import LOCAL_TENANT

app = typer.Typer(help="API keys of the server on this home.", no_args_is_help=True, add_completion=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for, such as laptop.")],
    tenant: Annotated[str, typer.Option(help="Whose memories it reads and writes, and no other tenant's.")] = LOCAL_TENANT,
    scope: Annotated[list[str] | None, typer.Option(help=f"What it may do, several times: {', '.join(SCOPES)}. Default: all.")] = None,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="0: no limit.")] = 0,
    tokens_per_day: Annotated[int, typer.Option(min=0, help="Prompt and completion tokens of its answers; 0: no limit.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once. From the first key on the server answers nobody without one."""
    ring = _ring(ctx)
    first = not ring.in_force
    key, secret = ring.create(
        name, tenant=tenant, scopes=_scopes(scope or SCOPES), requests_per_minute=requests_per_minute, tokens_per_day=tokens_per_day
    )
    if as_json:
        typer.echo(json.dumps({**_shown(key), "key": secret}, indent=1))
        return
    typer.echo(secret)
    typer.echo(f"{key.id}, tenant {key.tenant}: {', '.join(key.scopes)}. It is shown this once.", err=True)
    if first:
        typer.echo("This is the home's first key: from now on its server answers nobody without one.", err=True)


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every key, without its secret."""
    keys = _ring(ctx).all()
    if as_json:
        typer.echo(json.dumps([_shown(key) for key in keys], indent=1))
        return
    if not keys:
        typer.echo("no keys: the server answers this machine alone, as tenant local; make one: recollect keys create NAME")
        return
    table = Table(
        Column("id", no_wrap=True), Column("name", overflow="fold"), "tenant", "scopes", "requests/min", "tokens/day", "made", "revoked"
    )
    for key in keys:
        limits = [str(limit or "no limit") for limit in (key.requests_per_minute, key.tokens_per_day)]
        revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        cells = (key.id, key.name, key.tenant, ", ".join(key.scopes), *limits, f"{key.created_at:%Y-%m-%d}", revoked)
        table.add_row(*(Text(harmless(cell)) for cell in cells))
    Screen().print(table)


@app.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Or its name, if no other key has that; `recollect keys list` shows both.")],
) -> None:
    """Refuse a key from now on; a running server sees it at once."""
    key = _ring(ctx).revoke(key_id)
    typer.echo(f"{key.id} ({harmless(key.name)}) is revoked")


def _ring(ctx: typer.Context) -> KeyRing:
    invocation: Invocation = ctx.obj or Invocation()
    return KeyRing(invocation.settings().home / "keys")


def _scopes(given: list[str] | tuple[Scope, ...]) -> list[Scope]:
    for scope in given:
        if scope not in SCOPES:
            raise InvalidRequest(f"--scope {scope!r} is none of {', '.join(SCOPES)}", param="scope")
    return [scope for scope in SCOPES if scope in given]


def _shown(key: Key) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"sha256"})
