"""`recollect adapters`: through the running server, which loads and checks; else in the registry on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from clients.client import AdapterState, AdapterVersion, CanaryState
from recollect.adapter_story import DAY
from recollect.canary_judging import put_away, trial_of
from recollect.cli_adapters_judge import judge
from recollect.cli_adapters_show import diff, gc, show
from recollect.cli_client import Url, ask, running_url
from recollect.cli_screen import Screen
from recollect.errors import InvalidRequest
from recollect.invocation import Invocation
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry

app = typer.Typer(
    help="Trained versions of each policy: list, show, compare, promote, roll back, tidy up.", no_args_is_help=True, add_completion=False
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NAMED = re.compile(r"(?P<policy>.+)@(?:v(?P<version>[0-9]{1,9})|base)")


@app.command("list")
def list_(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """Every policy with its versions; the current one is marked, and a canary with what its rewards say."""
    found = url or running_url(ctx)
    states = ask(ctx, found, lambda client: client.adapters()) if found else on_disk(_registry(ctx), _idle(ctx))
    _print(states, as_json=as_json)


@app.command()
def promote(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POLICY@vN", help="The version to answer with; POLICY@base for none.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Answer with this version from now on, all sessions if it is a canary. A running server loads it without dropping a request."""
    policy, version = parsed(name)
    found = url or running_url(ctx)
    if found:
        states = ask(ctx, found, lambda client: client.promote(policy, version))
    else:
        registry = _registry(ctx)
        registry.set_current(policy, version)
        put_away(registry, policy)
        states = on_disk(registry, _idle(ctx))
    _print(states, as_json=as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    policy: Annotated[str, typer.Argument(help="The policy whose current version's parent is to answer.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take the policy's canary back; without one, go back to the version that the current one was trained from."""
    found = url or running_url(ctx)
    if found:
        states = ask(ctx, found, lambda client: client.roll_back(policy))
    else:
        registry = _registry(ctx)
        registry.rollback(policy)
        put_away(registry, policy)
        states = on_disk(registry, _idle(ctx))
    _print(states, as_json=as_json)


app.command()(show)
app.command()(judge)
app.command()(diff)
app.command()(gc)


def parsed(name: str) -> tuple[str, int | None]:
    """Policy and version of `memory@v7`; no version for `memory@base`. Raises InvalidRequest."""
    match = _NAMED.fullmatch(name)
    if match is None:
        shown = name if len(name) <= 80 else f"{name[:79]}…"
        raise InvalidRequest(f"{shown!r} names no version; write POLICY@v<number>, or POLICY@base for the base model", param="name")
    return match["policy"], int(match["version"]) if match["version"] else None


def on_disk(registry: Registry, idle: timedelta) -> list[AdapterState]:
    """What the registry holds, for when no server runs. `idle`: in which a session ends by itself."""
    states: list[AdapterState] = []
    for policy in registry.policies():
        current = registry.current(policy)
        versions = [_version(registry, policy, version) for version in registry.versions(policy)]
        canary = _canary(registry, policy, idle)
        states.append(AdapterState(policy=policy, pool=LOCAL_TENANT, current=current, versions=versions, canary=canary))
    return states


def _canary(registry: Registry, policy: str, idle: timedelta) -> CanaryState | None:
    if (trial := trial_of(registry, policy, idle)) is None:
        return None
    version, canary = trial.one
    name = f"{policy}@v{version}"
    return CanaryState(version=version, name=name, share=canary.share, since=canary.since, until=canary.until, figures=trial.figures)


def _version(registry: Registry, policy: str, version: int) -> AdapterVersion:
    retired = registry.retired(policy, version)
    return AdapterVersion(version=version, name=f"{policy}@v{version}", retired=retired.reason if retired else None)


def _registry(ctx: typer.Context) -> Registry:
    invocation: Invocation = ctx.obj
    return Registry(invocation.settings().home / "adapters")


def _idle(ctx: typer.Context) -> timedelta:
    invocation: Invocation = ctx.obj
    return timedelta(minutes=invocation.settings().agents.session_idle_minutes)


def _print(states: Sequence[AdapterState], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([state.model_dump(mode="json") for state in states], indent=1))
        return
    if not any(state.versions for state in states):
        typer.echo("no adapters yet: recollect train publishes them")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("version", "current", "loaded", "in flight", "refused", "retired"):
        shown.add_column(name, overflow="fold")
    for state in states:
        for version in state.versions:
            mark = "current" if version.version == state.current else ""
            if state.canary is not None and version.version == state.canary.version:
                mark = f"canary, {state.canary.share:.0%}"
            in_flight = str(version.in_flight) if version.in_flight else ""
            shown.add_row(
                Text(version.name, style="cyan"),
                mark,
                "yes" if version.loaded else "",
                in_flight,
                Text(version.refused or ""),
                Text(version.retired or ""),
            )
    Screen().print(shown)
    for state in states:
        if state.canary is not None:
            Screen().print(Text(told(state.canary)))


def told(canary: CanaryState) -> str:
    """A canary in a sentence."""
    return f"{canary.name} answers {canary.share:.0%} of new sessions until {canary.until:{DAY}} at most: {canary.figures.said}"
