"""`recollect memory search`: the best matches, filtered and weighed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, cast, get_args

import typer

from recollect.cli_client import Url, ask
from recollect.cli_memory_tables import print_hits
from recollect.cli_transfer import Whose
from recollect.memory import Filters, Kind, Ranking, SearchMode, Trust

Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsOf = Annotated[int | None, typer.Option(min=0, help="The state after this commit (seq).", show_default=False)]


def moment(text: str) -> datetime:
    """A time as ISO 8601, such as 2026-01-31 or 2026-01-31T12:00+01:00; UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no time; write 2026-01-31 or 2026-01-31T12:00+01:00") from exc
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def trusted(text: str) -> str:
    """Whose word a memory is: one of `Trust`."""
    if text not in get_args(Trust):
        raise typer.BadParameter(f"{text!r} is none of {', '.join(get_args(Trust))}")
    return text


def search(
    ctx: typer.Context,
    query: str,
    namespace: Whose = None,
    limit: Limit = 10,
    mode: Annotated[SearchMode, typer.Option(help="How to search.")] = "hybrid",
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only with this tag; repeat it for several, all of them.", show_default=False)
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            parser=trusted, metavar="WHOSE", help=f"Only the word of {', '.join(get_args(Trust))}; repeat it.", show_default=False
        ),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="About this time (UTC) or later.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="About a time (UTC) before this.", show_default=False)
    ] = None,
    as_of: AsOf = None,
    neighbours: Annotated[int, typer.Option(min=0, max=20, help="So many of its session before and after each.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="No more than fit, at 4 bytes a token.", show_default=False)] = None,
    recency: Annotated[float, typer.Option(min=0, max=10, help="Weight of being recent; relevance counts 1.")] = 0.0,
    importance: Annotated[float, typer.Option(min=0, max=10, help="Weight of importance; relevance counts 1.")] = 0.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """The best matches, best first."""
    filters = Filters(kind=kind, tags=tuple(tag or ()), trust=cast("tuple[Trust, ...]", tuple(trust or ())), since=since, until=until)
    hits = ask(
        ctx,
        url,
        lambda client: client.search_memories(
            query,
            namespace=namespace,
            limit=limit,
            mode=mode,
            filters=filters,
            ranking=Ranking(recency=recency, importance=importance),
            neighbours=neighbours,
            max_tokens=max_tokens,
            as_of=as_of,
        ),
    )
    if as_json:
        typer.echo(json.dumps([hit.model_dump(mode="json") for hit in hits], indent=1))
    else:
        print_hits(hits)
