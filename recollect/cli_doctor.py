"""`recollect doctor`: what would keep this home's server from answering, each with how to mend it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from clients.running import RunningServer, answers, recorded_server
from recollect.cli_screen import Screen
from recollect.errors import RecollectError
from recollect.invocation import Invocation
from recollect.keys import KeyRing
from recollect.settings import Settings

MIN_FREE_BYTES = 2**30
TIMEOUT_S = 5.0


class Finding(NamedTuple):
    """One thing that was looked at. `ok` None: it may be meant so."""

    what: str
    ok: bool | None
    told: str


def doctor(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at the settings, the home, the libraries, the port, the engine and the running server. Exit 1 if something is broken."""
    invocation: Invocation = ctx.obj or Invocation()
    found = list(findings(invocation.settings()))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in found], indent=1))
    else:
        table = Table(box=None, show_header=False)
        for finding in found:
            sign = {True: "[green]ok[/]", False: "[red]broken[/]", None: "[yellow]note[/]"}[finding.ok]
            table.add_row(sign, finding.what, finding.told)
        Screen(highlight=False).print(table)
    if any(finding.ok is False for finding in found):
        raise typer.Exit(1)


def findings(settings: Settings) -> Iterator[Finding]:
    """What was found, from the ground up: what stands lower keeps what stands higher from working."""
    home = settings.home.resolve()
    server = recorded_server(home)
    yield Finding("python", True, f"{sys.version.split()[0]} at {sys.executable}")
    for what, look in (("home", lambda: _home(home)), ("disk", lambda: _disk(home)), ("keys", lambda: _keys(home, settings))):
        yield _looked(what, look)
    yield _looked("libraries", lambda: _libraries(settings))
    yield _looked("embedder", lambda: _embedder(settings))
    yield _looked("port", lambda: _port(settings, server))
    yield _looked("engine", lambda: _engine(settings, home))
    yield _looked("server", lambda: _server(server))


def _looked(what: str, look: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        ok, told = look()
    except (RecollectError, OSError) as exc:  # what a look raises is what it found
        ok, told = False, str(exc)
    return Finding(what, ok, told)


def _home(home: Path) -> tuple[bool | None, str]:
    if not home.exists():
        return None, f"{home} is not there yet; recollect serve makes it"
    if not os.access(home, os.W_OK | os.X_OK):
        return False, f"{home} cannot be written by this user; chown it, or set --home"
    open_to = home.stat().st_mode & 0o077
    return (None, f"{home} can be read by others: chmod 700 {home}") if open_to else (True, str(home))


def _disk(home: Path) -> tuple[bool | None, str]:
    there = next(place for place in (home, *home.parents) if place.exists())
    free = shutil.disk_usage(there).free
    hint = "" if free >= MIN_FREE_BYTES else "; logs and memories need room: 1 GiB"
    return free >= MIN_FREE_BYTES, f"{free / 2**30:.1f} GiB free{hint}"


def _keys(home: Path, settings: Settings) -> tuple[bool | None, str]:
    keys = [key for key in KeyRing(home / "keys").all() if not key.revoked_at]
    if keys:
        return True, f"{len(keys)} in force"
    if settings.server.host not in ("127.0.0.1", "localhost", "::1"):
        return False, f"none, but server.host is {settings.server.host}: recollect keys create NAME"
    return True, "none: the server answers this machine alone"


def _libraries(settings: Settings) -> tuple[bool | None, str]:
    wanted = {"lancedb": "memory", "mcp": "MCP", "onnxruntime": "the embedder"}
    if settings.engine.kind == "vllm":
        wanted["vllm"] = "the engine"
    missing = [f"{name} ({use})" for name, use in wanted.items() if importlib.util.find_spec(name) is None]
    return not missing, f"missing: {', '.join(missing)}; install them, or set engine.kind" if missing else ", ".join(wanted)


def _embedder(settings: Settings) -> tuple[bool | None, str]:
    kind = settings.embedder.kind
    if kind == "none":
        return None, "none: memories are searched by their words alone"
    if kind == "endpoint":
        return _reaches(settings.embedder.url, "embedder.url")
    return True, kind


def _port(settings: Settings, server: RunningServer | None) -> tuple[bool | None, str]:
    if server is not None or settings.server.port == 0:
        return True, f"our own server has it: {server.url}" if server else "any free one"
    family = socket.AF_INET6 if ":" in settings.server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.server.host, settings.server.port))
        except OSError as exc:
            return False, f"{settings.server.port} cannot be had ({exc.strerror}); stop what uses it, or set server.port"
    return True, f"{settings.server.port} is free"


def _engine(settings: Settings, home: Path) -> tuple[bool | None, str]:
    engine = settings.engine
    if engine.kind in ("attach", "openai"):
        told = [_reaches(url, "engine.urls") for url in engine.urls]
        return all(ok for ok, _ in told), "; ".join(text for _, text in told) or "engine.urls is empty"
    if engine.kind != "vllm":
        return None, f"engine.kind is {engine.kind}: no model answers"
    from server.engines.vllm_command import check

    check(engine)
    logs = sorted((home / "logs").glob("*")) if (home / "logs").is_dir() else []
    return True, f"vLLM on {engine.model_path}" + (f"; its log: {logs[-1]}" if logs else "")


def _server(server: RunningServer | None) -> tuple[bool | None, str]:
    if server is None:
        return None, "none runs; start it: recollect serve"
    if not answers(server.url):
        return False, f"process {server.pid} lives, but {server.url} does not answer; see its log, or stop it"
    from clients.client import RecollectClient

    async def ask() -> dict[str, object]:
        async with RecollectClient(server.url, server.token) as client:
            return await client.status()

    found = asyncio.run(ask())
    return bool(found["ready"]), f"{server.url}: {'ready' if found['ready'] else found['detail']}"


def _reaches(url: str, setting: str) -> tuple[bool, str]:
    import httpx

    try:
        answer = httpx.get(url.rstrip("/").removesuffix("/v1") + "/v1/models", timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as exc:
        return False, f"{url} does not answer ({exc or type(exc).__name__}); start it, or set {setting}"
    return answer.status_code < 500, f"{url} answers ({answer.status_code})"
