"""The command line: quick help, late imports, exit codes, and trajectories in a terminal."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import typer

from recollect.cli import COMMANDS, main
from recollect.log import LogWriter
from recollect.settings import LogSettings
from recollect.trajectory import now
from tests.unit.recollect.log_cases import event_of, feedback_of, trajectory

HEAVY = ("fastapi", "lancedb", "mcp", "httpx", "torch", "transformers", "vllm", "pydantic", "numpy", "uvicorn")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one call."""
    monkeypatch.setattr("sys.argv", ["recollect", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0, output.out, output.err


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    program = (
        "import sys\nfrom recollect.cli import main\nsys.argv = ['recollect', '--help']\n"
        "try:\n    main()\nfinally:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_lies_where_the_table_says(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, typer.Typer) or callable(found)


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capsys, monkeypatch, "sevre")[0] == 2
    assert run(capsys, monkeypatch, "trajectories", "list", "--limit", "0")[0] == 2


def test_a_failure_is_exit_code_1_and_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, err = run(capsys, monkeypatch, "--config", str(tmp_path / "none.yaml"), "trajectories", "list")
    assert (code, out) == (1, "")
    assert err.startswith("error: no settings file at")
    assert len(err.splitlines()) == 1
    config = tmp_path / "wrong.yaml"
    config.write_text("servr: {port: 1}\n")
    code, _, err = run(capsys, monkeypatch, "--config", str(config), "trajectories", "list")
    assert code == 1
    assert "did you mean 'server'" in err


def test_an_override_that_is_none_names_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, _, err = run(capsys, monkeypatch, "--home", str(tmp_path), "serve", "server.prt=1")
    assert code == 1
    assert "server.prt" in err


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with three trajectories, the newest with feedback."""
    writer = LogWriter(tmp_path / "trajectories", LogSettings())
    begin = now()
    for index, agent in enumerate(("memory", "reader", "memory")):
        made = trajectory(f"aa{index}" + "0" * 29, agent=agent, created_at=begin + timedelta(minutes=index))
        writer.append(event_of(made))
    writer.append(feedback_of("aa2" + "0" * 29, label="down", correction="Lisbon", comment="she moved"))
    writer.close()
    return tmp_path


def test_the_list_is_newest_first_and_can_be_narrowed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--home", str(home), "trajectories", "list")
    _, out, _ = run(capsys, monkeypatch, *place, "--json")
    rows = json.loads(out)
    assert [row["id"][:3] for row in rows] == ["aa2", "aa1", "aa0"]
    assert rows[0]["feedback"] == ["corrected"]
    assert rows[0]["policies"] == ["memory@v3"]
    assert (rows[0]["steps"], rows[0]["tokens"], rows[0]["namespace"]) == (1, 5, "user/42")
    _, out, _ = run(capsys, monkeypatch, *place, "--json", "--agent", "memory", "--limit", "1")
    assert [row["id"][:3] for row in json.loads(out)] == ["aa2"]
    _, out, _ = run(capsys, monkeypatch, *place)
    header, first, *_ = out.splitlines()
    assert header.split() == ["id", "time", "agent", "policy", "session", "namespace", "steps", "tokens", "feedback"]
    assert "aa20000000000000" in first
    assert "corrected" in first


def test_show_tells_the_whole_story(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "--home", str(home), "trajectories", "show", "chatcmpl-aa2")
    assert code == 0
    for text in (
        *("where does she live?", "0 answerer · memory@v3 · 125 ms · 3 → 2 tokens · stop", "She lives in Porto [1].", "ADD m2"),
        *("retrieved m1 (0.750)", "cited m1", "secret: Porto", "correction: Lisbon", "comment: she moved"),
    ):
        assert text in out
    _, out, _ = run(capsys, monkeypatch, "--home", str(home), "trajectories", "show", "aa1", "--json")
    assert json.loads(out)["trajectory"]["agent"] == "reader"


def test_show_refuses_an_id_that_fits_none_or_several(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, monkeypatch, "--home", str(home), "trajectories", "show", "zz")
    assert code == 1
    assert "no trajectory" in err
    code, _, err = run(capsys, monkeypatch, "--home", str(home), "trajectories", "show", "aa")
    assert code == 1
    assert "3 trajectories begin with 'aa'" in err


def test_a_corrupt_line_is_a_warning_and_the_rest_is_listed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "trajectories" / "20200101T000000.000000-1.jsonl").write_bytes(b"no json\n")
    code, out, err = run(capsys, monkeypatch, "--home", str(home), "trajectories", "list", "--json")
    assert code == 0
    assert len(json.loads(out)) == 3
    assert "corrupt line" in err
    assert "line 1" in err
