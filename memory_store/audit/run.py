"""The audit of one namespace's table: everything that the stored memories alone tell. Blocking; run it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memory_store.audit.alike import Floats
from memory_store.audit.contradictions import Pair, contradictions
from memory_store.audit.duplicates import exact, near, with_vectors
from memory_store.audit.held import Held
from memory_store.audit.secrets import secrets
from memory_store.audit.sizes import sizes
from recollect.audit import AuditOptions, Contradiction, Duplicate, DuplicateGroup, SecretFound, Shown, StoreAudit, Tell
from recollect.memory import MemoryRecord

PAGE = 500
Show = Callable[[int], Shown]


def audit(held: Held, options: AuditOptions, tell: Tell) -> StoreAudit:
    """All findings. docs/serving.md says how long it takes."""
    current, count = held.current, len(held.current)
    told = secrets_of(held.versions, tell)
    hidden = {secret.id for secret in told}

    def show(place: int) -> Shown:
        return Shown.of(current[place], hidden)

    def advance(done: int) -> None:
        tell("near duplicates", done, count)

    advance(0)
    alike = near(current, held.vectors, cosine=options.cosine, overlap=options.overlap, advance=advance)
    tell("contradictions", 0, 1)
    opposed = _opposed(current, held.vectors)
    return StoreAudit(
        seq=held.seq,
        memories=count,
        without_vector=count - with_vectors(held.vectors),
        exact=tuple(_group(first, [(place, None) for place in rest], show) for first, *rest in exact(current)),
        near=tuple(_group(stays, members, show) for stays, members in alike[: options.limit]),
        near_count=len(alike),
        contradictions=tuple(_contradiction(pair, show) for pair in opposed[: options.limit]),
        contradictions_count=len(opposed),
        secrets=tuple(told),
        sizes=sizes(current, held.versions, hidden),
    )


def secrets_of(versions: Sequence[MemoryRecord], tell: Tell) -> list[SecretFound]:
    """The secrets of all versions. Those of one memory need not stand together: which memories hold one is found first."""
    suspects: set[str] = set()
    for start in range(0, len(versions), PAGE):
        tell("secrets", start, len(versions))
        suspects |= {found.id for found in secrets(versions[start : start + PAGE])}
    return secrets([version for version in versions if version.id in suspects])


def _opposed(current: Sequence[MemoryRecord], vectors: Floats) -> list[Pair]:
    """Contradictions among the facts, by their places among all memories."""
    places = [place for place, record in enumerate(current) if record.kind == "semantic"]
    pairs = contradictions([current[place] for place in places], vectors[places])
    return [Pair(places[pair.newer], places[pair.older], pair.differ_in, pair.cosine) for pair in pairs]


def _contradiction(pair: Pair, show: Show) -> Contradiction:
    cosine = None if pair.cosine is None else round(pair.cosine, 4)
    return Contradiction(newer=show(pair.newer), older=show(pair.older), differ_in=pair.differ_in, cosine=cosine)


def _group(stays: int, members: Sequence[tuple[int, float | None]], show: Show) -> DuplicateGroup:
    others = (Duplicate(memory=show(place), cosine=None if cosine is None else round(cosine, 4)) for place, cosine in members)
    return DuplicateGroup(stays=show(stays), others=tuple(others))
