"""`recollect memory` with all that a memory may have, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.clients.test_commands import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def memory(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Command:
    """Runs `recollect memory` on a namespace of the test's own."""
    monkeypatch.setenv("COLUMNS", "120")

    def command(name: str, *arguments: str) -> tuple[int, str, str]:
        whose = ("--namespace", f"user/{request.node.name}")
        return run(capsys, monkeypatch, "--home", str(server_home), "memory", name, *arguments, *whose)

    return command


def found(memory: Command, *arguments: str) -> list[str]:
    code, out, err = memory("search", *arguments, "--json")
    assert code == 0, err
    return [hit["record"]["id"] for hit in json.loads(out)]


def talk(memory: Command) -> None:
    for number, text in enumerate(("Shall we sail?", "The cello is broken.", "Then bring the viola.")):
        memory("add", text, "--id", f"t{number}", "--kind", "episodic", "--session", "monday", "--tag", "talk", "--tag", f"n{number}")


def test_a_search_is_filtered_and_weighed(memory: Command) -> None:
    memory("add", "a red cello", "--id", "a", "--tag", "work", "--tag", "music", "--importance", "0.9")
    memory("add", "a red cello", "--id", "b", "--tag", "work", "--kind", "procedural")
    memory("add", "a red cello", "--id", "c")
    assert found(memory, "cello") == ["c", "b", "a"]
    assert found(memory, "cello", "--tag", "work") == ["b", "a"]
    assert found(memory, "cello", "--tag", "work", "--tag", "music") == ["a"]
    assert found(memory, "cello", "--kind", "procedural") == ["b"]
    assert found(memory, "cello", "--trust", "user", "--trust", "tool", "--importance", "1") == ["a", "c", "b"]
    assert found(memory, "cello", "--trust", "tool") == []
    assert found(memory, "cello", "--since", "2999-01-01") == []
    assert found(memory, "cello", "--until", "2999-01-01T00:00+01:00", "--recency", "1")[0] == "c"
    assert found(memory, "cello", "--as-of", "1") == ["a"]
    assert found(memory, "cello", "--max-tokens", "6") == ["c", "b"]
    code, out, _ = memory("search", "cello", "--limit", "1", "--tag", "music")
    assert code == 0
    assert "a red cello  #work  #music" in out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--since", "yesterday", "2026-01-31T12:00+01:00"),
        ("--kind", "magic", "semantic"),
        ("--neighbours", "21", "20"),
        ("--trust", "me", "user"),
    ],
)
def test_a_wrong_option_is_told_with_what_is_right(memory: Command, option: str, value: str, says: str) -> None:
    code, _, err = memory("search", "x", option, value)
    assert code == 2
    assert says in err


def test_hits_are_shown_in_their_sessions(memory: Command) -> None:
    talk(memory)
    _, out, _ = memory("search", "broken", "--limit", "1", "--neighbours", "1")
    lines = [line for line in out.splitlines() if line.strip()]
    assert [line.split()[0] for line in lines] == ["id", "t0", "t1", "t2"]
    assert "The cello is broken.  #talk  #n1" in lines[2]
    _, out, _ = memory("search", "broken", "--limit", "1", "--neighbours", "1", "--json")
    [hit] = json.loads(out)
    assert [record["id"] for record in hit["context"]["after"]] == ["t2"]


def test_everything_about_a_memory_is_shown(memory: Command) -> None:
    talk(memory)
    code, out, _ = memory("show", "t1", "--reach", "1")
    assert code == 0
    for part in ("The cello is broken.", "episodic", "talk, n1", "user", "monday", "api", "seq 2", "▸", "Shall we sail?", "Then bring"):
        assert part in out
    told = json.loads(memory("show", "t1", "--reach", "1", "--json")[1])
    assert told["memory"]["tags"] == ["talk", "n1"]
    assert [record["id"] for record in told["neighbours"]] == ["t0", "t1", "t2"]
    code, _, err = memory("show", "t9")
    assert (code, err.startswith("error: no memory 't9'")) == (1, True)


def test_control_characters_of_a_memory_do_not_reach_the_terminal(memory: Command) -> None:
    memory("add", "red\x1b[31m tea", "--id", "a", "--tag", "odd\x1b]0;x\x07", "--kind", "episodic", "--session", "s\x1b[2J")
    for command in (("show", "a"), ("search", "tea"), ("list",), ("history", "a")):
        code, out, _ = memory(*command)
        assert code == 0
        assert "\x1b" not in out
        assert "\x07" not in out


def test_a_change_is_undone(memory: Command) -> None:
    memory("add", "one", "--id", "a")
    memory("update", "a", "two")
    assert memory("undo", "a")[:2] == (0, "undone a, seq 3\n")
    assert json.loads(memory("show", "a", "--json")[1])["memory"]["text"] == "one"
    assert json.loads(memory("show", "a", "--as-of", "2", "--json")[1])["memory"]["text"] == "two"
    memory("delete", "a")
    assert json.loads(memory("undo", "a", "--json")[1])["text"] == "one"
    assert [record["id"] for record in json.loads(memory("list", "--as-of", "1", "--kind", "semantic", "--json")[1])] == ["a"]
    memory("add", "first", "--id", "b")
    code, _, err = memory("undo", "b")
    assert (code, err) == (1, "error: memory 'b' has no earlier version; to take it away, delete it\n")
