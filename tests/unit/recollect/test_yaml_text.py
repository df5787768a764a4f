"""A key that stands twice in a YAML file is an error with its file, its line and the key, whatever the file is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.errors import ConfigurationError
from recollect.settings_read import load as load_settings
from recollect.settings_read import read_file
from recollect.yaml_text import NotYaml, load_yaml, read_yaml
from server.agents import agent_config
from server.agents.prompts import load_prompt
from server.delegation import plan
from trainer.resuming import saved_config
from trainer.run_folder import RunFolder
from trainer.suites.suite import load_suite

READERS: dict[str, Callable[[Path], object]] = {
    "settings": lambda file: load_settings(file, (), {}),
    "training": read_file,
    "plan": plan.load,
    "agent": agent_config.load,
    "prompt": lambda file: load_prompt(str(file.parent), file.stem),
    "suite": lambda file: load_suite(str(file)),
    "run": lambda file: saved_config(RunFolder(file.parent)),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_file_that_is_read_names_what_stands_twice(tmp_path: Path, reader: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("# a comment\nfirst:\n  one: 1\n  two: sk-secret\n  one: 2\n")
    with pytest.raises(ConfigurationError) as refused:
        READERS[reader](file)
    assert f"{file} is not YAML: line 5, column 3, the key 'one' stands in line 3 already" in refused.value.message
    assert "sk-secret" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 1", 3, "'a'"),
        ("a: {b: 1, b: 2}", 1, "'b'"),
        ("a: 1\n'a': 2", 2, "'a'"),
        ("- x: 1\n- x: 2\n  y: 3\n  x: 4", 4, "'x'"),
        ("1: a\n1: b", 2, "'1'"),
        ("~: a\nnull: b", 2, "'null'"),
        ("<<: {a: 1}\n<<: {b: 2}", 2, "'<<'"),
        (f"{'k' * 100}: 1\n{'k' * 100}: 2", 2, f"'{'k' * 80}'"),
    ],
)
@pytest.mark.parametrize("texts", [False, True])
def test_it_is_found_at_any_depth_and_in_any_form(text: str, line: int, key: str, texts: bool) -> None:
    with pytest.raises(NotYaml, match=f"line {line}, column .*, the key {key} stands in line"):
        load_yaml(text, texts=texts)


@pytest.mark.parametrize(("text", "key"), [("yes: 1\ntrue: 2", "true"), ("1: a\n0x1: b", "0x1"), ("1: a\n1.0: b", "1.0")])
def test_another_spelling_of_the_same_value_is_the_same_key(text: str, key: str) -> None:
    with pytest.raises(NotYaml, match=f"the key '{key}' stands in line 1 already"):
        load_yaml(text)
    assert len(load_yaml(text, texts=True)) == 2


@pytest.mark.parametrize("value", ["!!int ''", "!!bool foo", "!!timestamp foo", "!!float ''"])
def test_a_tag_that_does_not_fit_is_an_error(value: str) -> None:
    for text in (f"a: {value}", f"{value}: a"):
        with pytest.raises(NotYaml, match="does not fit the tag before it") as refused:
            load_yaml(text)
        assert "foo" not in str(refused.value)


def test_what_is_merged_in_may_be_set_again() -> None:
    lines = ["base: &base {a: 1, b: 2}", "more: &more {<<: *base, b: 3}", "one: {<<: *more, a: 4}", "two: {<<: *more}"]
    found = load_yaml("\n".join(lines))
    assert (found["one"], found["two"]) == ({"a": 4, "b": 3}, {"a": 1, "b": 3})
    assert load_yaml("- {a: 1}\n- {a: 2}") == [{"a": 1}, {"a": 2}]
    assert load_yaml("1: a\n'1': b") == {1: "a", "1": "b"}


def test_a_value_on_the_command_line_too() -> None:
    with pytest.raises(ConfigurationError, match="'server': the value is not YAML: line 1, column 11, the key 'port' stands"):
        load_settings(None, ["server={port: 1, port: 2}"], {})


def test_a_file_that_is_no_utf8_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: \xff")
    with pytest.raises(NotYaml, match=r"is not UTF-8 \(byte 4\)"):
        read_yaml(file)
