"""YAML as people write it: a key that stands twice is an error, where the library lets the last one win in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml
from yaml.parser import ParserError
from yaml.scanner import ScannerError

MAX_KEY = 80
"""Characters of a key that an error repeats."""


class NotYaml(ValueError):
    """What a text or a file is, to follow its name: `is not YAML: line 2, column 1, ...`. It shows no value, which may be a key."""


class _Twice(yaml.MarkedYAMLError):
    """A key stands twice in one mapping."""


class _Unique(yaml.SafeLoader):
    """Compares keys before `<<` brings others in: those may be set again. What is the same value is the same key: `yes`, `true`."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        first: dict[object, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            value = key.value if key.tag.endswith(":merge") else self._value_of(key)
            if (before := first.get(value)) is not None:
                raise _Twice(problem=f"the key {key.value[:MAX_KEY]!r} stands in line {before} already", problem_mark=key.start_mark)
            first[value] = key.start_mark.line + 1
        return node

    def _value_of(self, key: yaml.ScalarNode) -> object:
        return cast("object", self.construct_object(key))  # pyright: ignore[reportUnknownMemberType]


class _Texts(_Unique):
    """Leaves plain scalars text: YAML would read a key `0123` as 83. Pydantic makes numbers of them where a number belongs."""


_Texts.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str, *, texts: bool = False) -> Any:
    """What a text says. `texts`: numbers, dates and truths stay the texts that were written. Raises NotYaml."""
    try:
        return yaml.load(text, _Texts if texts else _Unique)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as exc:  # the last two for tags that do not fit
        raise NotYaml(f"is not YAML: {_fault(exc)}") from exc


def read_yaml(path: Path, *, texts: bool = False) -> Any:
    """What a file says. Raises OSError, NotYaml."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise NotYaml(f"is not UTF-8 (byte {exc.start + 1}); save it as UTF-8") from exc
    return load_yaml(text, texts=texts)


def _fault(exc: Exception) -> str:
    """Where the YAML is wrong. The library's own text quotes the line, which may hold a key."""
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    if isinstance(exc, LookupError | AttributeError):
        return "a value does not fit the tag before it (!!int, !!bool, ...); leave the tag out"
    mark = exc.problem_mark if isinstance(exc, yaml.MarkedYAMLError) else None
    if mark is None:
        return "it holds what no text may hold"
    said = f", {exc.problem}" if isinstance(exc, ScannerError | ParserError | _Twice) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}{said}"
