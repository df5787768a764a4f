"""`recollect connect` and `disconnect`: tell a client of this server, check that it answers, and take it back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clients.connect.check import models_of, tools_answer
from clients.connect.files import replace as replace_file
from clients.connect.files import written
from clients.connect.kept import connected, disconnected
from clients.connect.targets import TARGETS, Wanted
from clients.running import recorded_server
from recollect.errors import ConfigurationError
from recollect.invocation import Invocation

AGENTS = frozenset({"memory", "memory-r1", "reader", "rmm"})
PROFILES = ("memory", "documents", "delegate", "all")


class Client(StrEnum):
    """Who is told: the names of TARGETS, which a type checker reads here."""

    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    CURSOR = "cursor"
    VSCODE = "vscode"
    OPEN_WEBUI = "open-webui"
    OPENAI = "openai"
    LANGCHAIN = "langchain"


Which = Annotated[Client, typer.Argument(metavar="CLIENT", help=f"One of: {', '.join(TARGETS)}.")]
AsModel = Annotated[str | None, typer.Option("--model", metavar="AGENT", help="Also make this agent the client's model, such as memory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def connect(
    ctx: typer.Context,
    client: Which,
    model: AsModel = None,
    user: Annotated[bool, typer.Option("--user", help="For all of your projects, not for this folder alone.")] = False,
    profile: Annotated[str, typer.Option(help=f"The tools it is given: {', '.join(PROFILES)}.")] = "memory",
    key: Annotated[str, typer.Option(help="An API key of this server; default $RECOLLECT_API_KEY.")] = "",
    show: Annotated[bool, typer.Option("--print", help="Print what would be written, and change nothing.")] = False,
    check: Annotated[bool, typer.Option(help="Ask the server as the client would.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a client's configuration, or print what to copy into it, and check it by calling. A second call replaces the first."""
    if profile not in PROFILES:
        raise ConfigurationError(f"there is no profile {profile!r}; known are {', '.join(PROFILES)}", param="profile")
    wanted, target = _wanted(ctx), TARGETS[client.value]
    wanted = replace(wanted, profile=profile, model=model, key=key or os.environ.get("RECOLLECT_API_KEY", ""), user=user)
    if show:
        texts = written(target.entries(wanted))
        typer.echo("\n".join(f"# {file}\n{text}" for file, text in texts.items()) or target.lines(wanted), nl=False)
        return
    answers: list[str] = []
    if check and (model or not target.entries(wanted)):
        models = asyncio.run(models_of(wanted.url, wanted.key))
        answers.append(f"models at {wanted.url}/v1: {', '.join(models)}")
        if model is not None and model not in models:
            raise ConfigurationError(f"the server has no model {model!r}; it has {', '.join(models)}", param="model")
        if model is not None:
            wanted = replace(wanted, small_model=_base(models))
    texts, lines = connected(wanted.home, client.value, target.entries(wanted)), target.lines(wanted)
    _write(texts)
    if check and texts:
        answers.append(asyncio.run(tools_answer(wanted.command)))
    if as_json:
        files = [str(file) for file in texts]
        typer.echo(json.dumps({"client": client.value, "files": files, "lines": lines, "checked": answers, "next": target.note}, indent=1))
        return
    for file in texts:
        typer.echo(f"wrote   {file}")
    for answer in answers:
        typer.echo(f"checked {answer}", err=bool(lines))
    typer.echo(lines, nl=False)
    typer.echo(f"{target.title}: {target.note}.", err=bool(lines))


def disconnect(ctx: typer.Context, client: Which, as_json: AsJson = False) -> None:
    """Put back what stood where `connect` wrote. What else the files hold stays, also what somebody changed since then."""
    texts = disconnected(_wanted(ctx).home, client.value)
    _write(texts)
    if as_json:
        typer.echo(json.dumps({"client": client.value, "files": [str(file) for file in texts]}, indent=1))
        return
    for file, text in texts.items():
        typer.echo(f"{'removed' if text is None else 'changed'} {file}")
    if not texts:
        typer.echo(f"{TARGETS[client.value].title} was not connected from this home, or its files were changed since then")


def _base(models: Sequence[str]) -> str:
    """The base model, which remembers nothing: it stands last, once the engine was reached. Raises ConfigurationError."""
    if models[-1] in AGENTS:
        raise ConfigurationError("the engine has not been reached yet and its base model is not known; try again", param="model")
    return models[-1]


def _wanted(ctx: typer.Context) -> Wanted:
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings()
    home = settings.home.resolve()
    server = recorded_server(home)
    return Wanted(home=home, url=server.url if server else f"http://127.0.0.1:{settings.server.port}")


def _write(texts: Mapping[Path, str | None]) -> None:
    for file, text in texts.items():
        if text is None:
            file.unlink()
        else:
            replace_file(file, text)
