"""What requests to `/v1/memories` hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.memory import Filters, Kind, Ranking, SearchMode, Trust
from server.routes.limits import MAX_METADATA_VALUE, MAX_QUERY
from server.routes.wire import Body, Wire
from server.service.changes import Change

MAX_LIMIT = 1_000
MAX_BATCH = 1_000
MAX_REACH = 20
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE)] | int | float | bool
Metadata = Annotated[dict[str, MetadataValue], Field(max_length=64)]
Time = Annotated[datetime, Field(strict=False)]
Session = Annotated[str, Field(max_length=256)]
Seq = Annotated[int, Field(ge=1)]


class AddBody(Body):
    """A memory to add. With an `id` of the caller's choice the request can be repeated without harm."""

    text: str
    id: str | None = None
    kind: Kind = "semantic"
    metadata: Metadata | None = None
    tags: list[str] | None = None
    importance: float | None = None
    trust: Trust = "user"
    valid_at: Time | None = None
    invalid_at: Time | None = None
    session: Session | None = None
    """Episodic memories of one session are searched in their context; add them in their order."""
    namespace: str | None = None
    user: str | None = None


class UpdateBody(Body):
    """What is to be another; what is not given stays. null takes a time or the importance away.

    With `if_seq`, the `seq_from` of the version that was read, nobody's change is overwritten.
    """

    text: str | None = None
    kind: Kind | None = None
    metadata: Metadata | None = None
    tags: list[str] | None = None
    importance: float | None = None
    trust: Trust | None = None
    valid_at: Time | None = None
    invalid_at: Time | None = None
    if_seq: Seq | None = None

    def change(self, memory_id: str) -> Change:
        """It as a change of one memory."""
        return Change(op="update", id=memory_id, **self.model_dump(exclude_unset=True))


class BatchItem(Body):
    """One of several operations. Its `id` is the caller's choice, so that the batch can be sent again without harm.

    An `add` needs a `text`; an `update` is as in `UpdateBody`; a `delete` takes `id` and `if_seq` alone.
    """

    op: Literal["add", "update", "delete"] = "add"
    id: str
    text: str | None = None
    kind: Kind | None = None
    metadata: Metadata | None = None
    tags: list[str] | None = None
    importance: float | None = None
    trust: Trust | None = None
    valid_at: Time | None = None
    invalid_at: Time | None = None
    session: Session | None = None
    """Episodic memories of one session are searched in their context; send them in their order."""
    if_seq: Seq | None = None


class BatchBody(Body):
    """Operations to be done together."""

    memories: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]
    namespace: str | None = None
    user: str | None = None

    def changes(self) -> list[Change]:
        """The operations, in their order."""
        return [Change(**item.model_dump(exclude_unset=True)) for item in self.memories]


class FiltersBody(Wire):
    """Every condition that is given must hold; `recollect.memory.Filters` says more."""

    kind: Kind | None = None
    tags: Annotated[list[str], Field(max_length=32)] = Field(default_factory=list[str])
    without_tags: Annotated[list[str], Field(max_length=32)] = Field(default_factory=list[str])
    trust: list[Trust] = Field(default_factory=list[Trust])
    since: Time | None = None
    until: Time | None = None
    valid_at: Time | None = None


class RankingBody(Wire):
    """What counts beside relevance; `recollect.memory.Ranking` says more."""

    recency: float = 0.0
    half_life_days: float = 30.0
    importance: float = 0.0


class SearchBody(Body):
    """What to look for. `max_tokens` is an estimate: one token per four bytes of UTF-8."""

    query: Annotated[str, Field(max_length=MAX_QUERY)]
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 10
    mode: SearchMode = "hybrid"
    kind: Kind | None = None
    filters: FiltersBody = FiltersBody()
    ranking: RankingBody = RankingBody()
    neighbours: Annotated[int, Field(ge=0, le=MAX_REACH)] = 0
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    as_of: Annotated[int | None, Field(ge=0)] = None
    namespace: str | None = None
    user: str | None = None

    def asked(self) -> dict[str, Any]:
        """It as arguments of the service's search. Raises InvalidRequest for two kinds."""
        filters = self.filters.model_dump()
        if self.kind is not None and filters["kind"] not in (None, self.kind):
            raise InvalidRequest(f"kind is {self.kind!r}, but filters.kind {filters['kind']!r}; give one of them", param="filters.kind")
        filters["kind"] = filters["kind"] or self.kind
        asked = self.model_dump(include={"limit", "mode", "neighbours", "max_tokens", "as_of"})
        return {**asked, "filters": Filters(**filters), "ranking": Ranking(**self.ranking.model_dump())}


class ForgetBody(Body):
    """What to forget: one memory, one session, or everything of the namespace. Exactly one of them."""

    id: str | None = None
    session: str | None = None
    everything: bool = False
    namespace: str | None = None
    user: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest unless exactly one thing is named, and for everything also whose."""
        if (self.id is not None) + (self.session is not None) + self.everything != 1:
            raise InvalidRequest("name what to forget: id, session or everything, one of them", param="id")
        if self.everything and self.namespace is None and self.user is None:
            raise InvalidRequest("name whose memories are to be forgotten: namespace, such as user/42", param="namespace")
