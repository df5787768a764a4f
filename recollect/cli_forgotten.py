"""What `recollect memory forget` tells, and the retraining that it may be asked for. The trainer is imported only then."""

from __future__ import annotations

from typing import Any

import typer

from clients.memory_calls import Forgotten
from recollect.cli_client import running_url
from recollect.errors import InvalidRequest
from recollect.invocation import Invocation


def check_retraining(ctx: typer.Context, url: str | None) -> None:
    """Raises InvalidRequest, ConfigurationError if --retrain could not be done: before anything is forgotten."""
    from trainer.cli_replace import check_trainer

    if url is not None and url.rstrip("/") != (running_url(ctx) or "").rstrip("/"):
        raise InvalidRequest(
            "--retrain trains on this machine's home, but --url names another server; "
            "leave --retrain out, and run `recollect train --replace POLICY@vN` on the server's machine",
            param="retrain",
        )
    check_trainer()


def retrained(ctx: typer.Context, found: Forgotten) -> list[dict[str, Any]]:
    """The outcomes, one for each policy that lost its current version."""
    from trainer.cli_replace import retrained as replaced

    invocation: Invocation = ctx.obj
    return replaced(invocation.settings(), found.was)


def print_forgotten(found: Forgotten, *, retrain: bool) -> None:
    """The certificate in words."""
    typer.echo(f"forgotten: {found.memories} memories in {found.versions} versions, {found.trajectories} trajectories")
    typer.echo(f"verified: {found.verified}")
    if found.adapters:
        typer.echo(f"learned from it, and answer no more: {', '.join(found.adapters)}")
    if found.quarantined:
        typer.echo(f"learned from it, and deleted from quarantine: {', '.join(found.quarantined)}")
    if found.runs:
        typer.echo(f"recorded rollouts that held it are blanked, in training runs: {', '.join(found.runs)}")
    for policy, version in found.was.items():
        again = "" if retrain else f"; train what replaces it: recollect train --replace {policy}@{version}"
        typer.echo(f"{policy}@{version} was current, now it is {policy}@{found.now[policy]}{again}")
