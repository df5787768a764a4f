"""Memories of other systems, read from their files: Recollect's own export, mem0's, the MCP memory server's, Markdown.

Ids are the source's own where they can be ours, else a hash of what is imported: importing a file twice adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.memory import MAX_TEXT, MEMORY_ID, Kind, Scalar, Trust
from recollect.model import Frozen

_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")


class Imported(Frozen):
    """One memory to add."""

    id: str
    text: str
    kind: Kind = "semantic"
    metadata: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])
    tags: tuple[str, ...] = ()
    importance: float | None = None
    trust: Trust | None = None
    """None: the user's."""
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    session: str | None = None


def read_memories(path: Path) -> list[Imported]:
    """The memories of a file or a folder of Markdown, in their order, each once. Raises InvalidRequest that names file and place."""
    if path.is_dir():
        found = [memory for file in sorted(path.rglob("*.md")) for memory in _markdown(file, path)]
    elif path.suffix.lower() in (".md", ".markdown"):
        found = list(_markdown(path, path.parent))
    else:
        found = list(_structured(path))
    if not found:
        raise InvalidRequest(f"{path} holds no memories", param="file")
    return list(_distinct(path, found).values())


def _distinct(path: Path, found: list[Imported]) -> dict[str, Imported]:
    distinct: dict[str, Imported] = {}
    for memory in found:
        if distinct.setdefault(memory.id, memory).text != memory.text:
            raise InvalidRequest(f"{path} holds two memories of id {memory.id!r} with different texts", param="file")
    return distinct


def _structured(path: Path) -> Iterator[Imported]:
    text = _text(path)
    try:
        whole: Any = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield from _item(_json(line, f"{path}:{number}"), f"{path}:{number}")
        return
    if isinstance(whole, dict):
        named = cast("dict[str, Any]", whole)
        whole = named.get("results", named.get("memories", named))
    items = cast("list[Any]", whole) if isinstance(whole, list) else [whole]
    for number, item in enumerate(items):
        yield from _item(item, f"{path}: [{number}]")


def _item(item: Any, place: str) -> Iterator[Imported]:
    """One element of a file, by the fields that it has."""
    if not isinstance(item, dict):
        raise InvalidRequest(f"{place} is {type(item).__name__}, not an object", param="file")
    fields = cast("dict[str, Any]", item)
    for name, read in _READERS:
        if name in fields:
            yield from read(fields, place)
            return
    known = ", ".join(repr(name) for name, _ in _READERS)
    raise InvalidRequest(f"{place} has none of the fields {known}: it is no export that is known", param="file")


def _own(item: dict[str, Any], place: str) -> Iterator[Imported]:
    """A line of `recollect memory export`."""
    provenance, trust = _object(item, "provenance", place), item.get("trust")
    yield _memory(
        place,
        item["text"],
        item.get("id"),
        kind=item.get("kind", "semantic"),
        metadata=_object(item, "metadata", place),
        tags=item.get("tags") or (),
        importance=item.get("importance"),
        trust=None if trust == "operator" else trust,  # who imports it is no operator of the server
        valid_at=item.get("valid_at"),
        invalid_at=item.get("invalid_at"),
        session=provenance.get("session"),
    )


def _mem0(item: dict[str, Any], place: str) -> Iterator[Imported]:
    """An element of mem0's `get_all`, and of its platform's export."""
    kept = {name: item[name] for name in ("user_id", "agent_id", "run_id") if item.get(name)}
    yield _memory(place, item["memory"], item.get("id"), metadata=_object(item, "metadata", place) | kept, valid_at=item.get("created_at"))


def _mcp(item: dict[str, Any], place: str) -> Iterator[Imported]:
    """A line of the official MCP memory server's file: an entity's observations, or a relation."""
    if item["type"] == "relation":
        text = f"{item.get('from')} {item.get('relationType')} {item.get('to')}"
        yield _memory(place, text, None, metadata={"relation": str(item.get("relationType"))})
        return
    name, observations = item.get("name"), item.get("observations")
    if item["type"] != "entity" or not isinstance(name, str) or not isinstance(observations, list):
        raise InvalidRequest(f"{place} is neither an entity with a name and observations nor a relation", param="file")
    for observation in cast("list[Any]", observations):
        yield _memory(place, f"{name}: {observation}", None, metadata={"entity": name, "entity_type": str(item.get("entityType", ""))})


_READERS: tuple[tuple[str, Callable[[dict[str, Any], str], Iterator[Imported]]], ...] = (("memory", _mem0), ("text", _own), ("type", _mcp))


def _markdown(path: Path, root: Path) -> Iterator[Imported]:
    """Each bullet and each paragraph of a note, with the heading that it stands under."""
    heading, block = "", list[str]()

    def memory() -> Iterator[Imported]:
        text = " ".join(line.strip() for line in block)
        block.clear()
        if text:
            told = f"{heading}: {text}" if heading else text
            yield _memory(
                str(path), told, None, metadata={"file": str(path.relative_to(root)), **({"heading": heading} if heading else {})}
            )

    for line in _text(path).splitlines():
        if match := _HEADING.match(line):
            yield from memory()
            heading = match[1]
        elif not line.strip() or line.strip("-*_ ") == "":
            yield from memory()
        else:
            if _BULLET.match(line):
                yield from memory()
            block.append(_BULLET.sub("", line))
    yield from memory()


def _object(item: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    value: Any = item.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{place}: {name} is {type(value).__name__}, not an object", param="file")
    return cast("dict[str, Any]", value or {})


def _memory(place: str, text: Any, given: Any, **fields: Any) -> Imported:
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{place}: a memory needs a text", param="file")
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"{place}: a text has {len(text)} characters, at most {MAX_TEXT} are kept in one memory", param="file")
    given_metadata: dict[str, Any] = fields.pop("metadata", {})
    usable = isinstance(given, str) and MEMORY_ID.fullmatch(given)
    metadata = {name: value for name, value in given_metadata.items() if isinstance(value, str | int | float | bool)}
    memory_id = given if usable else f"imp_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    try:
        memory = Imported.model_validate({"id": memory_id, "text": text, "metadata": metadata, **fields})
    except ValueError as exc:
        raise InvalidRequest(f"{place}: {exc}", param="file") from exc
    return memory.model_copy(update={"valid_at": _aware(memory.valid_at), "invalid_at": _aware(memory.invalid_at)})


def _aware(time: datetime | None) -> datetime | None:
    """A time without a zone is taken as UTC: exports of other systems often have none."""
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read: {exc.strerror}", param="file") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{path} is no UTF-8 text", param="file") from exc


def _json(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as exc:
        raise InvalidRequest(f"{place} is not JSON: {exc}", param="file") from exc
