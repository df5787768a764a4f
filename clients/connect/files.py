"""Entries of JSON and TOML files: set and taken away, with all else left as it stands."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import ParseError

from clients.connect.targets import Entry, Value
from recollect.errors import ConfigurationError

Document = MutableMapping[str, Any]


def written(entries: Sequence[Entry]) -> dict[Path, str | None]:
    """Each file's text with the entries as they say; None for one that would hold nothing.

    Raises ConfigurationError for a file that cannot be read as what it is.
    """
    texts: dict[Path, str | None] = {}
    for file, own in _by_file(entries).items():
        document = _read(file)
        for entry in own:
            if entry.value is None:
                _take(document, entry.place)
                continue
            place = document
            for name in entry.place[:-1]:
                place = _inside(place, name, file)
            place[entry.place[-1]] = dict(entry.value) if isinstance(entry.value, Mapping) else entry.value
        texts[file] = _text(file, document) if document else None
    return texts


def replace(file: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone: it may hold a key. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    target = file.resolve()  # a link stays a link
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as made:
            made.write(text)
            made.flush()
            os.fsync(made.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def values(entries: Sequence[Entry]) -> list[Value | None]:
    """What stands now where the entries go; None where nothing does. Raises ConfigurationError."""
    documents = {entry.file: _read(entry.file) for entry in entries}
    found: list[Value | None] = []
    for entry in entries:
        inner: Any = documents[entry.file]
        for name in entry.place:
            inner = cast("Document", inner).get(name) if isinstance(inner, MutableMapping) else None
        unwrapped: Any = inner.unwrap() if hasattr(inner, "unwrap") else inner
        found.append(unwrapped)
    return found


def _take(document: Document, place: tuple[str, ...]) -> None:
    """Take an entry away, and the tables around it that are empty then."""
    name, *rest = place
    if not rest:
        document.pop(name, None)
        return
    inner = document.get(name)
    if isinstance(inner, MutableMapping):
        _take(cast("Document", inner), tuple(rest))
        if not inner:
            del document[name]


def _by_file(entries: Sequence[Entry]) -> dict[Path, list[Entry]]:
    files: dict[Path, list[Entry]] = {}
    for entry in entries:
        files.setdefault(entry.file, []).append(entry)
    return files


def _inside(place: Document, name: str, file: Path) -> Document:
    if name not in place:
        place[name] = tomlkit.table(is_super_table=True) if file.suffix == ".toml" else {}
    inner = place[name]
    if not isinstance(inner, MutableMapping):
        raise ConfigurationError(f"{file}: {name} is no table; mend it, or copy what --print shows", param=name)
    return cast("Document", inner)


def _read(file: Path) -> Document:
    try:
        text = file.read_text("utf-8") if file.exists() else ""
        if file.suffix == ".toml":
            return tomlkit.parse(text)
        found: Any = json.loads(text) if text.strip() else {}
    except (ValueError, ParseError) as exc:
        raise ConfigurationError(f"{file} cannot be read ({exc}); mend it, or copy what --print shows", param="file") from exc
    if not isinstance(found, dict):
        raise ConfigurationError(f"{file} holds no JSON object; mend it, or copy what --print shows", param="file")
    return cast("Document", found)


def _text(file: Path, document: Document) -> str:
    if file.suffix == ".toml":
        return tomlkit.dumps(document)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
