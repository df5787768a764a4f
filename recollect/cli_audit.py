"""`recollect memory audit`: what is wrong with the memories of a namespace, and mending what can be mended safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recollect.audit import Audit, AuditOptions, Mended
from recollect.cli_audit_tables import show
from recollect.cli_client import Url, ask
from recollect.cli_progress import progress
from recollect.cli_transfer import Whose
from recollect.errors import InvalidRequest

if TYPE_CHECKING:
    from clients.client import RecollectClient


def audit(
    ctx: typer.Context,
    namespace: Whose = None,
    fix: Annotated[bool, typer.Option("--fix", help="Delete exact duplicates; the history keeps them.")] = False,
    fix_secrets: Annotated[bool, typer.Option("--fix-secrets", help="Forget memories that hold secrets, for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    cosine: Annotated[float, typer.Option(min=0.5, max=1, help="Of near duplicates, at least.")] = 0.95,
    overlap: Annotated[float, typer.Option(min=0, max=1, help="Share of words that near duplicates have in common, at least.")] = 0.5,
    unused_days: Annotated[int, typer.Option(min=1, max=36_500, help="Never retrieved and older than so many days.")] = 30,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most so many findings of each sort.")] = 20,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Duplicates, contradictions, secrets, recall loops, what is never retrieved, and sizes. Without --fix nothing is changed."""
    if as_json and (fix or fix_secrets) and not yes:
        raise InvalidRequest("--json cannot ask; add --yes to mend, or leave --fix and --fix-secrets out", param="yes")
    options = AuditOptions(cosine=cosine, overlap=overlap, unused_days=unused_days, limit=limit)

    async def call(client: RecollectClient) -> Audit:
        with progress() as step:
            return await client.audit(namespace=namespace, options=options, tell=step)

    found = ask(ctx, url, call)
    if not as_json:
        show(found, limit)
    duplicates = [other.memory.id for group in found.store.exact for other in group.others] if fix else []
    secrets = [secret.id for secret in found.store.secrets] if fix_secrets else []
    mended = Mended(deleted=(), forgotten=(), left=())
    if duplicates or secrets:
        if not yes:
            _confirm(found.namespace, duplicates, secrets)
        mended = ask(ctx, url, lambda client: client.mend(namespace=namespace, duplicates=duplicates, secrets=secrets))
    if as_json:
        typer.echo(found.model_dump_json(indent=1) if not (fix or fix_secrets) else _both(found, mended))
    elif fix or fix_secrets:
        left = f", {len(mended.left)} left: they changed meanwhile" if mended.left else ""
        typer.echo(f"{len(mended.deleted)} exact duplicates deleted, {len(mended.forgotten)} memories with secrets forgotten{left}")


def _confirm(namespace: str, duplicates: list[str], secrets: list[str]) -> None:
    """Say what is to be done, and ask. Ends the command where the answer is no."""
    typer.echo("To be done:")
    for memory_id in duplicates:
        typer.echo(f"  delete {memory_id} (the same text stays in another memory)")
    for memory_id in secrets:
        typer.echo(f"  forget {memory_id} in all its versions, with what was logged of it")
    typer.confirm(f"Change the memories of {namespace}?", abort=True, err=True)


def _both(found: Audit, mended: Mended) -> str:
    return f'{{"audit": {found.model_dump_json()}, "mended": {mended.model_dump_json()}}}'
