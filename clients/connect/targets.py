"""What each client needs: files to change with the entry that is ours in them, or lines to copy.

A file's entry is where our server is named in it (`mcpServers.recollect`): `connect` sets it, `disconnect` takes it away, and
whatever else the file holds stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "recollect"
Value = Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class Entry:
    """A value at a place in a JSON or TOML file; None: nothing is there."""

    file: Path
    place: tuple[str, ...]
    value: Value | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be connected: the home's server at `url`, with our agent `model` as the client's model if that is set."""

    home: Path
    url: str
    profile: str = "memory"
    model: str | None = None
    small_model: str = ""
    """What answers the client's own small requests, such as titles: a model that remembers nothing."""
    key: str = ""
    user: bool = False
    """For all of the user's projects, not for the folder alone."""

    @property
    def command(self) -> Sequence[str]:
        """MCP over stdio: it finds the server of the home, and starts it if none runs."""
        profile = () if self.profile == "memory" else ("--profile", self.profile)
        return (sys.executable, "-m", "recollect", "--home", str(self.home), "mcp", *profile)

    @property
    def stdio(self) -> dict[str, Any]:
        """The command as most clients write it."""
        return {"command": self.command[0], "args": list(self.command[1:])}


@dataclass(frozen=True, slots=True)
class Target:
    """A client. `entries` are changed in its files; `lines` are for people to copy; `note` says what to do then."""

    title: str
    entries: Callable[[Wanted], Sequence[Entry]]
    lines: Callable[[Wanted], str]
    note: str


def _nothing(_: Wanted) -> Sequence[Entry]:
    return ()


def _no_lines(_: Wanted) -> str:
    return ""


def _claude_code(wanted: Wanted) -> Sequence[Entry]:
    servers = Path.home() / ".claude.json" if wanted.user else Path(".mcp.json")
    found = [Entry(servers, ("mcpServers", NAME), {"type": "stdio", **wanted.stdio})]
    if wanted.model is None:
        return found
    settings = (Path.home() if wanted.user else Path()) / ".claude" / ("settings.json" if wanted.user else "settings.local.json")
    env = {
        "ANTHROPIC_BASE_URL": wanted.url,
        "ANTHROPIC_AUTH_TOKEN": wanted.key or "none",
        "ANTHROPIC_MODEL": wanted.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": wanted.small_model or wanted.model,
    }
    return [*found, *(Entry(settings, ("env", name), value) for name, value in env.items())]


def _codex(wanted: Wanted) -> Sequence[Entry]:
    config = Path(os.environ.get("CODEX_HOME", Path.home() / ".codex")) / "config.toml"
    # Codex gives a server up that is slow to start, unless it is required.
    found = [Entry(config, ("mcp_servers", NAME), {**wanted.stdio, "required": True})]
    if wanted.model is None:
        return found
    provider = {"name": "Recollect", "base_url": f"{wanted.url}/v1", "wire_api": "responses", "env_key": "RECOLLECT_API_KEY"}
    chosen = {"model": wanted.model, "model_provider": NAME}
    return [*found, Entry(config, ("model_providers", NAME), provider), *(Entry(config, (name,), value) for name, value in chosen.items())]


def _cursor(wanted: Wanted) -> Sequence[Entry]:
    return [Entry((Path.home() if wanted.user else Path()) / ".cursor" / "mcp.json", ("mcpServers", NAME), wanted.stdio)]


def _vscode(wanted: Wanted) -> Sequence[Entry]:
    return [Entry(Path(".vscode") / "mcp.json", ("servers", NAME), {"type": "stdio", **wanted.stdio})]


def _open_webui(wanted: Wanted) -> str:
    return (
        f"OPENAI_API_BASE_URL={wanted.url}/v1\n"
        f"OPENAI_API_KEY={wanted.key or 'none'}\n"
        "ENABLE_FORWARD_USER_INFO_HEADERS=true   # each of its users has memories of their own\n"
    )


def _openai(wanted: Wanted) -> str:
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{wanted.url}/v1", api_key="{wanted.key or "none"}")\n'
        'question = {"role": "user", "content": "What do you know of me?"}\n'
        f'print(client.chat.completions.create(model="{wanted.model or "memory"}", messages=[question]).choices[0].message.content)\n'
    )


def _langchain(wanted: Wanted) -> str:
    return (
        "from langchain_openai import ChatOpenAI\n\n"
        f'model = ChatOpenAI(model="{wanted.model or "memory"}", base_url="{wanted.url}/v1", api_key="{wanted.key or "none"}")\n'
        'print(model.invoke("What do you know of me?").content)\n'
    )


TARGETS: Mapping[str, Target] = {
    "claude-code": Target("Claude Code", _claude_code, _no_lines, "start claude again; /mcp shows the server"),
    "codex": Target("Codex", _codex, _no_lines, "start codex again; as its model's key it wants RECOLLECT_API_KEY in the environment"),
    "cursor": Target("Cursor", _cursor, _no_lines, "Settings, MCP shows the server"),
    "vscode": Target("VS Code", _vscode, _no_lines, "the agent mode of Copilot Chat shows the tools"),
    "open-webui": Target("Open WebUI", _nothing, _open_webui, "set these for Open WebUI and start it again; models: memory, reader, ..."),
    "openai": Target("the OpenAI SDK", _nothing, _openai, "run this with `pip install openai`"),
    "langchain": Target("LangChain", _nothing, _langchain, "run this with `pip install langchain-openai`"),
}
