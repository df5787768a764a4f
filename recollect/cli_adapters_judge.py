"""`recollect adapters judge`: what rewards say of the canaries now, and what that decides. A running server does it by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from recollect.canary_judging import judged
from recollect.invocation import Invocation
from recollect.registry import Registry


def judge(
    ctx: typer.Context,
    policy: Annotated[str, typer.Argument(help="Whose canary; default: those of all policies.")] = "",
) -> None:
    """Promote or take back the canaries of which their rewards, or their time, decide. For cron, where no server runs."""
    invocation: Invocation = ctx.obj
    settings = invocation.settings()
    registry, idle = Registry(settings.home / "adapters"), timedelta(minutes=settings.agents.session_idle_minutes)
    told = [said for name in ([policy] if policy else registry.known()) if (said := judged(registry, name, idle)) is not None]
    typer.echo("\n".join(told) or "no canary is in force")
