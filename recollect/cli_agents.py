"""`recollect agents list|show|check|run`: which agents there are, how they are wired, whether a file of one's own fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from recollect.cli_client import Url, ask
from recollect.cli_screen import Screen, harmless
from recollect.errors import ConfigurationError, NotFound
from recollect.invocation import Invocation
from recollect.settings import Settings

app = typer.Typer(help="The agents, and how they are wired of modules.", no_args_is_help=True, add_completion=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The agent: the model name that clients use.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every agent, and the modules that there are to wire them of."""
    from server.agents import agent_config, registry

    configs = agent_config.found(_folders(_settings(ctx)))
    modules = registry.known_modules()
    if as_json:
        agents = [config.model_dump(mode="json") | {"file": str(path)} for config, path in configs.values()]
        typer.echo(json.dumps({"agents": agents, "modules": modules}, indent=1))
        return
    table = Table("agent", "flow", "modules", "what it does")
    for config, _ in configs.values():
        wired = ", ".join(f"{kind}: {module.use}" for kind, module in config.modules.items())
        table.add_row(*(Text(harmless(cell)) for cell in (config.id, config.flow, wired, config.description)))
    kinds = Table("kind", "module", "what it does")
    for module in modules:
        kinds.add_row(*(Text(harmless(module[key])) for key in ("kind", "name", "what")))
    screen = Screen()
    screen.print(table)
    screen.print(kinds)


@app.command()
def show(ctx: typer.Context, agent: Id, as_json: AsJson = False) -> None:
    """One agent as it holds: every option, the policies that it calls, its prompts."""
    from server.agents import agent_config

    settings = _settings(ctx)
    configs = agent_config.found(_folders(settings))
    if agent not in configs:
        raise NotFound(f"no agent {agent!r}; there are: {', '.join(configs)}", param="ID")
    page = _page(configs[agent][0], settings) | {"file": str(configs[agent][1])}
    typer.echo(json.dumps(page, indent=1) if as_json else harmless(yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=120)))


@app.command()
def check(
    ctx: typer.Context,
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Wire the agents of YAML files, or all that the server would find. Exits with 1 if one does not fit, and says why."""
    from server.agents import agent_config

    settings = _settings(ctx)
    paths = files or [path for _, path in agent_config.found(_folders(settings)).values()]
    problems: list[dict[str, str | None]] = []
    for path in paths:
        try:
            _page(agent_config.load(path), settings)
        except ConfigurationError as exc:
            problems.append({"file": str(path), "field": exc.param, "problem": exc.message})
    if as_json:
        typer.echo(json.dumps(problems, indent=1))
    else:
        for problem in problems:
            typer.echo(harmless(f"{problem['file']}: {problem['problem']}"), err=True)
        if not problems:
            typer.echo("every agent fits")
    raise typer.Exit(1 if problems else 0)


@app.command()
def run(
    ctx: typer.Context,
    agent: Id,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    document: Annotated[Path | None, typer.Option(help="A text file that is put before the question.", show_default=False)] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask one agent of the running server, and see what it recalled and which policies answered."""
    messages = [{"role": "user", "content": question}]
    if document is not None:
        try:
            messages.insert(0, {"role": "user", "content": document.read_text("utf-8")})
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{document} cannot be read as text: {exc}", param="--document") from exc
    answer = ask(ctx, url, lambda client: client.chat(agent, messages))
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
        return
    said = answer["recollect"]
    screen = Screen()
    screen.print(Text(harmless(answer["choices"][0]["message"]["content"] or "")))
    memories = ", ".join(f"{memory['id']} ({memory['score']:.2f})" for memory in said["memories"]) or "none"
    screen.print(Text(f"\npolicies: {json.dumps(said['policies'])}\nmemories: {memories}", style="dim"))
    screen.print(Text(f"every step: recollect trajectories show {said['trajectory_id']}", style="dim"))


def _settings(ctx: typer.Context) -> Settings:
    invocation: Invocation = ctx.obj
    return invocation.settings()


def _folders(settings: Settings) -> list[Path]:
    return [*settings.agents.folders, settings.home / "agents"]


def _page(config: Any, settings: Settings) -> dict[str, Any]:
    from server.agents import registry

    agent, wiring = registry.wired_with(config, settings.agents, settings.prompt_pack)
    return {
        "id": agent.id,
        "description": config.description,
        "config_hash": agent.config_hash,
        "policies": sorted(agent.aliases),
        **wiring.resolved,
        "writing": config.writing or settings.agents.writing,
        "prompt_texts": {name: prompt.model_dump(mode="json", exclude_defaults=True) for name, prompt in wiring.prompts.items()},
    }
