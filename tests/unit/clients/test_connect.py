"""`connect` and `disconnect`: what is written into clients' files, what stays, and what is put back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clients.connect.targets import TARGETS
from recollect.cli_connect import Client, connect, disconnect
from recollect.errors import ConfigurationError

APP = typer.Typer()
APP.command()(connect)
APP.command()(disconnect)


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(APP, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project to connect in, with a home directory and a Recollect home of its own."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "recollect"))
    return project


def test_the_clients_on_the_command_line_are_those_that_there_are() -> None:
    assert [client.value for client in Client] == list(TARGETS)


@pytest.mark.parametrize(
    ("client", "file", "place"),
    [
        ("claude-code", ".mcp.json", ["mcpServers", "recollect"]),
        ("cursor", ".cursor/mcp.json", ["mcpServers", "recollect"]),
        ("vscode", ".vscode/mcp.json", ["servers", "recollect"]),
    ],
)
def test_a_json_file_gets_our_server_and_keeps_the_others(folder: Path, client: str, file: str, place: Sequence[str]) -> None:
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    before = {place[0]: {"other": {"command": "x"}}, "more": 1}
    path.write_text(json.dumps(before))
    _run("connect", client, "--no-check")
    found = json.loads(path.read_text())
    assert found[place[0]]["other"] == {"command": "x"}
    assert found[place[0]]["recollect"]["args"][-1] == "mcp"
    _run("disconnect", client)
    assert json.loads(path.read_text()) == before


def test_a_file_that_holds_nothing_else_goes_again(folder: Path) -> None:
    _run("connect", "claude-code", "--no-check", "--profile", "documents")
    assert json.loads((folder / ".mcp.json").read_text())["mcpServers"]["recollect"]["args"][-2:] == ["--profile", "documents"]
    assert "removed" in _run("disconnect", "claude-code")
    assert not (folder / ".mcp.json").exists()
    assert "was not connected" in _run("disconnect", "claude-code")


def test_claude_code_gets_our_agent_as_its_model_and_its_own_settings_back(folder: Path) -> None:
    settings = folder / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    before = {"env": {"ANTHROPIC_MODEL": "theirs", "OTHER": "1"}, "permissions": {}}
    settings.write_text(json.dumps(before))
    for _ in range(2):  # the second call must not take the first one's for theirs
        _run("connect", "claude-code", "--no-check", "--model", "memory", "--key", "rk_1")
    env = json.loads(settings.read_text())["env"]
    assert env == {
        "ANTHROPIC_MODEL": "memory",
        "OTHER": "1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8000",
        "ANTHROPIC_AUTH_TOKEN": "rk_1",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "memory",
    }
    _run("disconnect", "claude-code")
    assert json.loads(settings.read_text()) == before


def test_what_an_earlier_call_wrote_is_put_back_too(folder: Path) -> None:
    settings = folder / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    before = {"env": {"ANTHROPIC_MODEL": "theirs"}}
    settings.write_text(json.dumps(before))
    settings.chmod(0o644)
    _run("connect", "claude-code", "--no-check", "--model", "memory", "--key", "rk_1")
    assert settings.stat().st_mode & 0o077 == 0, "it holds a key now"
    _run("connect", "claude-code", "--no-check")
    _run("disconnect", "claude-code")
    assert json.loads(settings.read_text()) == before
    assert not (folder / ".mcp.json").exists()


def test_codex_keeps_its_comments(folder: Path) -> None:
    config = folder.parent / "codex" / "config.toml"
    config.parent.mkdir()
    before = '# mine\nmodel = "theirs"  # dear to me\n\n[mcp_servers.other]\ncommand = "x"\n'
    config.write_text(before)
    _run("connect", "codex", "--no-check", "--model", "memory")
    text = config.read_text()
    found = tomllib.loads(text)
    assert "# mine" in text
    assert (found["model"], found["model_provider"]) == ("memory", "recollect")
    assert found["model_providers"]["recollect"]["wire_api"] == "responses"
    assert found["mcp_servers"]["recollect"]["required"] is True
    assert found["mcp_servers"]["other"] == {"command": "x"}
    _run("disconnect", "codex")
    assert tomllib.loads(config.read_text()) == tomllib.loads(before)
    assert "# mine" in config.read_text()


def test_what_somebody_changed_since_then_stays(folder: Path) -> None:
    _run("connect", "cursor", "--no-check")
    path = folder / ".cursor" / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"recollect": {"command": "mine"}}}))
    assert "changed since then" in _run("disconnect", "cursor")
    assert json.loads(path.read_text()) == {"mcpServers": {"recollect": {"command": "mine"}}}


def test_a_file_that_cannot_be_read_is_left_as_it_is(folder: Path) -> None:
    (folder / ".mcp.json").write_text("{ // comments\n}")
    with pytest.raises(ConfigurationError, match=r"\.mcp\.json cannot be read"):
        _run("connect", "claude-code", "--no-check")
    assert (folder / ".mcp.json").read_text() == "{ // comments\n}"


@pytest.mark.parametrize("client", TARGETS)
def test_print_changes_nothing(folder: Path, client: str) -> None:
    shown = _run("connect", client, "--print", "--model", "memory")
    assert "recollect" in shown.lower() or "127.0.0.1:8000" in shown
    assert list(folder.rglob("*")) == []


def test_an_unknown_profile_is_named(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no profile 'x'"):
        _run("connect", "cursor", "--profile", "x")
