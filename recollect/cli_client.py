"""How commands ask the running server: the one of the home, or one that `--url` names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from clients.client import RecollectClient
from clients.running import recorded_server
from recollect.errors import RecollectError
from recollect.invocation import Invocation

R = TypeVar("R")
Url = Annotated[str | None, typer.Option(help="The server's base URL; default: the one that runs on this home.", show_default=False)]


def ask(ctx: typer.Context, url: str | None, call: Callable[[RecollectClient], Awaitable[R]]) -> R:
    """What `call` gets from the server. Raises RecollectError if none runs."""
    invocation: Invocation = ctx.obj
    server = recorded_server(invocation.settings().home)
    found = url or (server.url if server else None)
    if found is None:
        raise RecollectError(f"no server runs on home {invocation.settings().home}; start one: {invocation.serving}", code="no_server")

    async def answer() -> R:
        # The home's own server is asked as its owner; a key is for one that was named.
        own = server is not None and server.url.rstrip("/") == found.rstrip("/")
        key = server.token if server and own else os.environ.get("RECOLLECT_API_KEY")
        async with RecollectClient(found, key) as client:
            return await call(client)

    return asyncio.run(answer())


def running_url(ctx: typer.Context) -> str | None:
    """The base URL of the server that runs on the home; None if none does."""
    invocation: Invocation = ctx.obj
    server = recorded_server(invocation.settings().home)
    return server.url if server else None
