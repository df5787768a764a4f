"""`recollect serve`, `mcp` and `status`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.invocation import Invocation
from recollect.settings import Settings

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings, over those of the file.")]


def serve(ctx: typer.Context, overrides: Overrides = None) -> None:
    """Serve the agents: OpenAI-compatible HTTP, and MCP at /mcp."""
    # The settings first: a wrong one is told at once, before anything heavy is imported.
    settings = _settings(ctx, overrides)
    from server.serve import serve as run

    run(settings)


def mcp(ctx: typer.Context, overrides: Overrides = None) -> None:
    """MCP over stdio, for editors and coding agents: passed on to the running server, which is started if none runs."""
    settings = _settings(ctx, overrides)
    from clients.mcp_stdio import main

    main(settings)


def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What the running server says of itself, its engine and its adapters. Exit 1 if none runs or it is not ready."""
    found = asyncio.run(_status(_settings(ctx, None).home))
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))
    if not found["ready"]:
        raise typer.Exit(1)


def _settings(ctx: typer.Context, overrides: list[str] | None) -> Settings:
    invocation: Invocation = ctx.obj
    return invocation.settings(overrides or ())


async def _status(home: Path) -> dict[str, Any]:
    from clients.client import RecollectClient
    from clients.running import recorded_server

    server = recorded_server(home)
    if server is None:
        return {"running": False, "ready": False, "detail": f"no server runs on home {home}; start one: recollect serve"}
    async with RecollectClient(server.url, os.environ.get("RECOLLECT_API_KEY")) as client:
        ready = await client.status()
        adapters = [state.model_dump(mode="json") for state in await client.adapters()]
    return {"running": True, **server.model_dump(mode="json"), **ready, "adapters": adapters}


def _lines(found: dict[str, Any]) -> list[str]:
    if not found["running"]:
        return [found["detail"]]
    lines = [
        f"server    {found['url']}  pid {found['pid']}  {'ready' if found['ready'] else 'not ready: ' + found['detail']}",
        f"home      {found.get('home', '')}",
        f"engine    {_part(found.get('engine'))}  {found.get('engine_url') or ''}",
        f"memory    {_part(found.get('memory'))}",
        f"agents    {', '.join(found.get('models', []))}",
    ]
    for state in found["adapters"]:
        lines.append(f"policy    {state['policy']} answers with {state['serving'] or 'nothing yet'}")
        lines += [f"          v{v['version']} refused: {v['refused']}" for v in state["versions"] if v.get("refused")]
    return lines


def _part(part: dict[str, Any] | None) -> str:
    return " ".join(str(value) for value in (part or {}).values() if not isinstance(value, bool))
