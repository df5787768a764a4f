"""`recollect memory audit` against a real server: the dry run, the question, and what is mended."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Protocol

import pytest

from tests.unit.clients.test_commands import run

KEY = "AKIAIOSFODNN7EXAMPLE"


class Command(Protocol):
    """Runs a command; its exit code, standard output and standard error."""

    def __call__(self, *arguments: str, answer: str = "") -> tuple[int, str, str]: ...


@pytest.fixture
def command(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Command:
    """Runs `recollect memory ...` in a namespace of the test's own."""
    whose = ("--namespace", f"user/{request.node.name[:40]}")

    def call(*arguments: str, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        return run(capsys, monkeypatch, "--home", str(server_home), "memory", *arguments, *whose)

    for memory_id, text in (("t1", "Ada likes tea"), ("t2", "ada likes TEA"), ("s1", f"The key is {KEY}"), ("o", "Ada lives in Oslo")):
        assert call("add", text, "--id", memory_id)[0] == 0
    assert call("add", "Ada lives in Rome [bold]now[/bold]", "--id", "r")[0] == 0
    return call


def test_an_audit_is_shown_in_tables_and_changes_nothing(command: Command) -> None:
    code, out, err = command("audit")
    assert (code, err) == (0, "")
    for line in ("5 memories", "1 secrets", "0 recall loops", "1 groups of exact duplicates", "1 possible contradictions", "not judged"):
        assert line in out
    assert KEY not in out
    assert "(holds a secret)" in out
    assert "[bold]now" in out
    found = json.loads(command("audit", "--json")[1])
    assert (found["store"]["seq"], found["options"]["cosine"]) == (5, 0.95)


def test_a_fix_shows_what_it_would_do_and_asks(command: Command) -> None:
    code, out, _ = command("audit", "--fix", answer="n\n")
    assert code == 1
    assert "delete t1" in out
    assert json.loads(command("audit", "--json")[1])["store"]["memories"] == 5
    code, out, _ = command("audit", "--fix", answer="y\n")
    assert code == 0
    assert out.endswith("1 exact duplicates deleted, 0 memories with secrets forgotten\n")
    assert json.loads(command("audit", "--json")[1])["store"]["memories"] == 4
    assert "ada likes tea" in command("history", "t1")[1].lower()


def test_secrets_are_forgotten_only_when_that_is_asked_for(command: Command) -> None:
    found = json.loads(command("audit", "--fix", "--fix-secrets", "--yes", "--json")[1])
    assert found["mended"] == {"deleted": ["t1"], "forgotten": ["s1"], "left": []}
    assert command("history", "s1")[0] == 1
    _, out, _ = command("audit", "--fix", "--fix-secrets", "--yes")
    assert out.endswith("0 exact duplicates deleted, 0 memories with secrets forgotten\n")


def test_what_cannot_be_asked_is_an_error(command: Command) -> None:
    code, out, err = command("audit", "--fix", "--json")
    assert (code, out) == (1, "")
    assert "--yes" in err
    code, _, err = command("audit", "--url", "http://127.0.0.1:9")
    assert (code, "no answer from http://127.0.0.1:9" in err) == (1, True)
