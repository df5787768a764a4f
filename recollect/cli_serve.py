"""`recollect serve`, `mcp` and `status`."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.invocation import Invocation
from recollect.settings import Settings

SETTINGS = (
    "Settings, over those of the file, such as server.port=8017 engine.model=Qwen/Qwen3-4B (docs/serving.md lists them). "
    "--home and --config stand before the command."
)
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help=SETTINGS)]


def serve(ctx: typer.Context, overrides: Overrides = None) -> None:
    """Serve the agents: OpenAI-compatible HTTP, and MCP at /mcp."""
    # The settings first: a wrong one is told at once, before anything heavy is imported.
    settings = _settings(ctx, overrides)
    from server.serve import serve as run

    run(settings)


class McpProfile(StrEnum):
    """Which tools are offered: on memories, on long documents, to hand work on (with delegation.file), or all (with mcp.all)."""

    memory = "memory"
    documents = "documents"
    delegate = "delegate"
    all = "all"


def mcp(
    ctx: typer.Context,
    overrides: Overrides = None,
    profile: Annotated[McpProfile, typer.Option(help="Which tools: for memories, documents, handing work on, or all.")] = McpProfile.memory,
) -> None:
    """MCP over stdio, for editors and coding agents: passed on to the running server, which is started if none runs."""
    settings = _settings(ctx, overrides)
    from clients.mcp_stdio import main

    main(settings, profile.value)


def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What the running server says of itself, its engine and its adapters. Exit 1 if none runs or it is not ready."""
    invocation: Invocation = ctx.obj
    found = asyncio.run(_status(_settings(ctx, None).home, invocation.serving))
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))
    if not found["ready"]:
        raise typer.Exit(1)


def _settings(ctx: typer.Context, overrides: list[str] | None) -> Settings:
    invocation: Invocation = ctx.obj
    return invocation.settings(overrides or ())


async def _status(home: Path, serving: str) -> dict[str, Any]:
    from clients.client import RecollectClient
    from clients.running import recorded_server
    from recollect.adapter_story import why
    from recollect.registry import Registry

    server = recorded_server(home)
    if server is None:
        return {"running": False, "ready": False, "detail": f"no server runs on home {home}; start one: {serving}"}
    async with RecollectClient(server.url, server.token) as client:
        ready = await client.status()
        states = await client.adapters()
    registry = Registry(home / "adapters")
    adapters = [state.model_dump(mode="json") | {"why": why(registry, state.policy)} for state in states]
    return {"running": True, **server.model_dump(mode="json"), **ready, "adapters": adapters}


def _lines(found: dict[str, Any]) -> list[str]:
    if not found["running"]:
        return [found["detail"]]
    from clients.client import CanaryState
    from recollect.cli_adapters import told

    lines = [
        f"server    {found['url']}  pid {found['pid']}  {'ready' if found['ready'] else 'not ready: ' + found['detail']}",
        f"home      {found.get('home', '')}",
        f"engine    {_part(found.get('engine'))}  {found.get('engine_url') or ''}",
        *_rest(found.get("rest")),
        f"memory    {_part(found.get('memory'))}",
        f"agents    {', '.join(found.get('models', []))}",
    ]
    if found.get("open_sessions"):
        lines.append(f"sessions  {found['open_sessions']} open, to be reflected on when they end")
    lines += _spent(found.get("budget"))
    for state in found["adapters"]:
        lines.append(f"policy    {state['policy']} answers with {state['serving'] or 'nothing yet'}")
        if (canary := state.get("canary")) is not None:
            lines.append(f"          {told(CanaryState.model_validate(canary))}")
        lines += [f"          {sentence}" for sentence in state["why"]]
        lines += [f"          v{v['version']} refused: {v['refused']}" for v in state["versions"] if v.get("refused")]
    return lines


def _rest(rest: dict[str, Any] | None) -> list[str]:
    """Since when the engine rests, what for, and when it is woken at the latest; nothing where it does not."""
    if rest is None or rest["phase"] == "awake":
        return []
    woken = "" if rest["left_s"] is None else f"; woken in {rest['left_s']:.0f} s unless that is put off"
    return [f"rest      {rest['phase']} for {rest['since_s']:.0f} s ({rest['mode']}, {rest['reason']}){woken}"]


def _spent(budget: dict[str, Any] | None) -> list[str]:
    """What was called today, an agent a line; then the limits of calls after answers, where there are some."""
    if budget is None:
        return []
    lines: list[str] = []
    for agent, roles in budget["today"]["agents"].items():
        told = ", ".join(f"{role} {one['calls']} ({one['prompt_tokens'] + one['completion_tokens']} tokens)" for role, one in roles.items())
        lines.append(f"today     {agent} called: {told}")
    after = budget["today"]["after_answers"]
    tokens = after["prompt_tokens"] + after["completion_tokens"]
    limits = [f"{name} {budget[name]}" for name in ("daily_calls", "daily_tokens") if budget[name]]
    used_up = "; used up: turns are kept as they were said" if budget["used_up"] else ""
    lines.append(f"memory    {after['calls']} calls after answers today, {tokens} tokens; {', '.join(limits) or 'no limit'}{used_up}")
    return lines


def _part(part: dict[str, Any] | None) -> str:
    return " ".join(str(value) for value in (part or {}).values() if not isinstance(value, bool))
