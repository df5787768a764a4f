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
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import LogSettings
from recollect.trajectory import now
from tests.unit.recollect.log_cases import event_of, feedback_of, step, trajectory

HEAVY = ("fastapi", "lancedb", "mcp", "httpx", "torch", "transformers", "vllm", "pydantic", "numpy", "uvicorn")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str, columns: int = 160) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one call."""
    monkeypatch.setattr("sys.argv", ["recollect", *arguments])
    monkeypatch.setenv("COLUMNS", str(columns))
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "server.port=["), ("server.port", "write a plain value")),
        (("train", "iterations=["), ("iterations", "write a plain value")),
        (("adapters", "promote", "memory@v" + "9" * 5000), ("memory@v9", "write POLICY@v<number>")),
        (("--home", __file__, "serve"), (__file__, "--home FOLDER")),
        (("--config", str(Path(__file__).parent), "status"), ("--config", "give a YAML file")),
        (("train", "--config", str(Path(__file__).parent)), ("--config", "give a YAML file")),
    ],
)
def test_a_wrong_argument_is_one_short_line_with_the_fix(
    arguments: tuple[str, ...], words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert len(err) < 300
    assert all(word in err for word in words)


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


STEERING = "\x1b[2J\x1b]0;owned\x07 \x9b31m \r\x7fhere\tand\nthere"


def steers(output: str) -> bool:
    return any((letter < " " and letter not in "\n\t") or "\x7f" <= letter <= "\x9f" for letter in output)


def test_stored_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "trajectories", LogSettings())
    stored = trajectory("bb" + "0" * 30, answer=STEERING, error=STEERING, request=[user(STEERING)], session=STEERING, namespace=STEERING)
    stored = stored.model_copy(update={"steps": [step(0, STEERING).model_copy(update={"cited": [STEERING], "finish_reason": STEERING})]})
    writer.append(event_of(stored))
    writer.append(feedback_of(stored.id, correction=STEERING, comment=STEERING))
    writer.close()
    assert steers(STEERING)
    for arguments in (("show", "bb"), ("list",)):
        code, out, _ = run(capsys, monkeypatch, "--home", str(tmp_path), "trajectories", *arguments)
        assert code == 0
        assert "[2J]0;owned" in out
        assert not steers(out)
    # Boxes keep their right edge, and line breaks stay.
    _, out, _ = run(capsys, monkeypatch, "--home", str(tmp_path), "trajectories", "show", "bb")
    assert {len(line) for line in out.splitlines() if line.startswith("│")} == {160}
    assert "│ there" in out
    code, _, err = run(capsys, monkeypatch, "--home", str(tmp_path), "trajectories", "show", "\x9b2J")
    assert code == 1
    assert not steers(err)


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_long_error_leaves_the_other_columns_legible(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = LogWriter(tmp_path / "trajectories", LogSettings())
    begin = now()
    for index, (agent, version) in enumerate((("memory", 3), ("memory-r1", 123))):
        named = step(0).model_copy(update={"policy": Policy(base="seed", adapter=agent, version=version)})
        made = trajectory(
            f"aa{index}" + "0" * 29,
            agent=agent,
            created_at=begin + timedelta(minutes=index),
            error="EngineError: the engine answered\n" + "with an error " * 30,
            namespace="user/" + "x" * 60,
        )
        writer.append(event_of(made.model_copy(update={"steps": [named]})))
        writer.append(feedback_of(made.id, label="up", correction="Lisbon"))
    writer.close()
    code, out, _ = run(capsys, monkeypatch, "--home", str(tmp_path), "trajectories", "list", columns=columns)
    header, *lines = out.splitlines()
    assert code == 0
    assert all(name in header.split() for name in ("id", "time", "agent", "policy", "feedback", "error"))
    assert len(lines) == 2
    for line, index, agent, policy in ((lines[0], 1, "memory-r1", "memory-r1@v123"), (lines[1], 0, "memory", "memory@v3")):
        time = (begin + timedelta(minutes=index)).strftime("%m-%d %H:%M")
        assert len(line) <= columns
        assert all(word in line for word in (f"aa{index}" + "0" * 13, time, f" {agent} ", f" {policy} ", " corrected ", "Engin"))
        assert line.rstrip().endswith("…")
    _, out, _ = run(capsys, monkeypatch, "--home", str(tmp_path), "trajectories", "list", columns=1000)
    assert "user/" + "x" * 60 in out
    assert "EngineError: the engine answered " + "with an error " * 29 + "with an error" in out
