"""What `connect` changed, kept in the home, so that `disconnect` puts back what stood there before, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clients.connect.files import replace, values, written
from clients.connect.targets import Entry
from recollect.model import Record

FILE = "connected.json"


class Change(Record):
    """One entry of one file: what stood there, and what stands there since."""

    file: Path
    place: tuple[str, ...]
    before: Any = None
    after: Any

    @property
    def entry(self) -> Entry:
        """Where it is."""
        return Entry(self.file, self.place, self.after)


_CHANGES = TypeAdapter(dict[str, list[Change]])


def changes(home: Path) -> dict[str, list[Change]]:
    """What was changed for each client, and was not put back."""
    file = home / FILE
    return _CHANGES.validate_json(file.read_bytes()) if file.exists() else {}


def connected(home: Path, client: str, entries: Sequence[Entry]) -> dict[Path, str | None]:
    """The files' new texts; what they replace is kept. Raises ConfigurationError."""
    texts = written(entries)
    known = changes(home)
    first = {(change.file, change.place): change.before for change in known.get(client, [])}
    now = [
        Change(file=entry.file.absolute(), place=entry.place, before=before, after=entry.value)
        for entry, before in zip(entries, values(entries), strict=True)
    ]
    # A second call replaces what the first one wrote, not what stood there before that.
    again = {(change.file, change.place) for change in now}
    others = [change for change in known.get(client, []) if (change.file, change.place) not in again]
    known[client] = others + [change.model_copy(update={"before": first.get((change.file, change.place), change.before)}) for change in now]
    _keep(home, known)
    return texts


def disconnected(home: Path, client: str) -> dict[Path, str | None]:
    """The files' texts as they were before; None for one that held nothing else. What somebody changed since then stays as it is.

    Raises ConfigurationError.
    """
    known = changes(home)
    own = [change for change in known.pop(client, []) if change.file.exists()]
    still = [change for change, value in zip(own, values([c.entry for c in own]), strict=True) if value == change.after]
    texts = written([Entry(change.file, change.place, change.before) for change in still])
    _keep(home, known)
    return texts


def _keep(home: Path, known: dict[str, list[Change]]) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(home / FILE, _CHANGES.dump_json(known, indent=1).decode())
