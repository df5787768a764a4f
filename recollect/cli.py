"""The `recollect` command: global options, and for each command where its code lies, imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from recollect.errors import RecollectError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("recollect.cli_init:init", "Have the home learn every night, from cron or a systemd timer."),
    "serve": ("recollect.cli_serve:serve", "Serve the agents: OpenAI-compatible HTTP, and MCP at /mcp."),
    "mcp": ("recollect.cli_serve:mcp", "MCP over stdio, for editors and coding agents; starts the server if none runs."),
    "status": ("recollect.cli_serve:status", "What the running server says of itself, its engine and its adapters."),
    "doctor": ("recollect.cli_doctor:doctor", "What would keep the server from answering, and how to mend it."),
    "connect": ("recollect.cli_connect:connect", "Tell a client of the server: Claude Code, Codex, Cursor, VS Code, Open WebUI, SDKs."),
    "disconnect": ("recollect.cli_connect:disconnect", "Put back what connect changed."),
    "memory": ("recollect.cli_memory:app", "Search, show, list, add, change and delete memories on the running server."),
    "agents": ("recollect.cli_agents:app", "The agents: list them, show one, check a file of your own, ask one."),
    "keys": ("recollect.cli_keys:app", "API keys: make, list and revoke them."),
    "usage": ("recollect.cli_usage:usage", "Who used how much: requests and tokens by tenant, key and day."),
    "trajectories": ("recollect.cli_trajectories:app", "What the agents did: list it, show one in full, compute its rewards."),
    "adapters": ("recollect.cli_adapters:app", "Trained versions of each policy: list, show, compare, promote, roll back, tidy up."),
    "train": ("trainer.cli:train", "Learn from the log and publish a better adapter."),
    "nightly": ("trainer.cli_nightly:nightly", "One night of learning, for cron: publish what is better for certain, or say why not."),
    "runs": ("trainer.cli_runs:app", "Training runs: list them, rebuild their batches, give back what a dead one took."),
    "eval": ("trainer.cli_eval:app", "Measure agents on suites of tasks, compare evaluations, measure retrieval."),
    "seed": ("trainer.cli_seed:app", "The bundled seed model: build it again, or check its files."),
    "demo": ("trainer.demo:main", "The whole loop on the seed model, in one terminal."),
    "learn": ("trainer.learn:main", "The whole loop with three seeds, as a table with intervals."),
}
"""Name: where its function or typer app lies, and its line in `recollect --help`."""

app = typer.Typer(
    help="Serves memory-augmented agents, logs what they did, learns from it, and swaps the new adapters in.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Deferred(TyperCommand):
    """A command that is imported when it is called; until then it has only a name and a line of help."""

    def __init__(self, name: str, target: str, line: str) -> None:
        super().__init__(name, help=line, short_help=line)
        self._target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        module, _, attribute = self._target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command(self.name)(found)
            found = alone
        command = get_command(found)
        # Completion belongs to the whole command line, not to each of its parts.
        command.params = [param for param in command.params if param.name not in ("install_completion", "show_completion")]
        return command.make_context(info_name, args, parent=parent, **extra)


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.", show_default=False)] = None,
    home: Annotated[Path | None, typer.Option(help="Where everything is kept; default $RECOLLECT_HOME or ./.recollect.")] = None,
) -> None:
    """Options of every command. Commands read them from `ctx.obj`, an Invocation."""
    from recollect.invocation import Invocation

    ctx.obj = Invocation(config, home)


def command() -> TyperGroup:
    """The whole command line."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (target, line) in COMMANDS.items():
        group.add_command(Deferred(name, target, line))
    return group


def main() -> None:
    """Run the command line. Exit 0: done; 1: failed, with one line on stderr; 2: wrong usage."""
    try:
        command()(prog_name="recollect")
    except (RecollectError, OSError) as exc:
        from recollect.cli_screen import harmless

        print(f"error: {harmless(str(exc))}", file=sys.stderr)
        raise SystemExit(1) from exc
