"""`recollect doctor`: what it finds, and that what is broken is told with how to mend it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from recollect.cli_doctor import doctor, findings
from recollect.settings import Settings
from recollect.settings_read import parse


def _found(home: Path, **sections: dict[str, Any]) -> dict[str, tuple[bool | None, str]]:
    settings = parse(Settings, {"home": str(home), "engine": {"kind": "none"}, "embedder": {"kind": "none"}, **sections})
    return {finding.what: (finding.ok, finding.told) for finding in findings(settings)}


def test_a_new_home_has_nothing_broken(tmp_path: Path) -> None:
    found = _found(tmp_path / "home", server={"port": 0})
    assert [what for what, (ok, _) in found.items() if ok is False] == []
    assert "recollect serve" in found["server"][1]


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ok, told = _found(tmp_path, server={"port": port})["port"]
    assert ok is False
    assert str(port) in told
    assert "server.port" in told


@pytest.mark.parametrize(
    ("sections", "what", "says"),
    [
        ({"engine": {"kind": "openai", "model": "x", "urls": ["http://127.0.0.1:9"]}}, "engine", "engine.urls"),
        ({"embedder": {"kind": "endpoint", "url": "http://127.0.0.1:9"}}, "embedder", "embedder.url"),
        ({"server": {"host": "0.0.0.0", "port": 0}}, "keys", "recollect keys create"),
        ({"engine": {"kind": "vllm", "model": "./nothing"}}, "engine", "does not exist"),
    ],
)
def test_what_is_broken_is_told_with_the_setting(tmp_path: Path, sections: dict[str, Any], what: str, says: str) -> None:
    ok, told = _found(tmp_path, **sections)[what]
    assert ok is False
    assert says in told


def test_it_ends_with_1_if_something_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_ENGINE__KIND", "openai")
    monkeypatch.setenv("RECOLLECT_ENGINE__MODEL", "x")
    monkeypatch.setenv("RECOLLECT_ENGINE__URLS", '["http://127.0.0.1:9"]')
    monkeypatch.setenv("RECOLLECT_SERVER__PORT", "0")
    app = typer.Typer()
    app.command()(doctor)
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 1
    assert {finding["what"]: finding["ok"] for finding in json.loads(done.stdout)}["engine"] is False
