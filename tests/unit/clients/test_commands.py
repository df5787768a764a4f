"""`recollect memory`, `adapters` and `status` against a real server, and without one."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from recollect.canary import Canary
from recollect.cli import main
from recollect.registry import Registry
from tests.unit.recollect.test_adapters_show import made


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one call."""
    monkeypatch.setattr("sys.argv", ["recollect", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0, output.out, output.err


def test_memories_are_added_found_listed_and_deleted(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ("--home", str(server_home))
    whose = ("--namespace", "user/cli")
    code, out, _ = run(capsys, monkeypatch, *home, "memory", "add", "Bo plays the cello", "--id", "cello", *whose)
    assert (code, out) == (0, "cello\n")
    code, out, _ = run(capsys, monkeypatch, *home, "memory", "search", "cello", *whose, "--json")
    assert [hit["record"]["text"] for hit in json.loads(out)] == ["Bo plays the cello"]
    _, out, _ = run(capsys, monkeypatch, *home, "memory", "list", *whose)
    assert "Bo plays the cello" in out
    code, out, _ = run(capsys, monkeypatch, *home, "memory", "update", "cello", "Bo plays the viola", *whose)
    assert (code, out) == (0, "updated cello, seq 2\n")
    _, out, _ = run(capsys, monkeypatch, *home, "memory", "stats", *whose)
    assert "1 (1 semantic)" in out
    code, out, _ = run(capsys, monkeypatch, *home, "memory", "delete", "cello", *whose)
    assert (code, out) == (0, "deleted cello\n")
    code, out, err = run(capsys, monkeypatch, *home, "memory", "delete", "cello", *whose)
    assert (code, out) == (1, "")
    assert err.startswith("error: no memory 'cello'")
    assert len(err.splitlines()) == 1


def test_a_memory_is_forgotten_after_a_question_or_with_yes(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--home", str(server_home), "memory")
    whose = ("--namespace", "user/forgetful")
    run(capsys, monkeypatch, *command, "add", "Bo plays the cello", "--id", "cello", *whose)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, _ = run(capsys, monkeypatch, *command, "forget", "--id", "cello", *whose)
    assert code == 1
    assert "cello" in run(capsys, monkeypatch, *command, "list", *whose)[1]
    code, out, _ = run(capsys, monkeypatch, *command, "forget", "--id", "cello", *whose, "--yes")
    assert code == 0
    assert out.startswith("forgotten: 1 memories in 1 versions, 0 trajectories\nverified: ")
    assert run(capsys, monkeypatch, *command, "list", *whose)[1].startswith("no memories found here")
    code, _, err = run(capsys, monkeypatch, *command, "forget", *whose)  # before anything is asked
    assert (code, err) == (1, "error: name what to forget with one of --id, --session, --everything\n")


def test_retraining_that_could_not_be_done_is_refused_before_anything_is_forgotten(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, whose = ("--home", str(server_home), "memory"), ("--namespace", "user/retrained")
    run(capsys, monkeypatch, *command, "add", "Bo plays the oboe", "--id", "oboe", *whose)
    forget = (*command, "forget", "--id", "oboe", *whose, "--yes", "--retrain")
    code, _, err = run(capsys, monkeypatch, *forget, "--url", "http://127.0.0.1:9")
    assert (code, "--url names another server" in err) == (1, True)
    with monkeypatch.context() as patched:
        patched.setattr("trainer.cli_replace.importlib.util.find_spec", lambda _: None)
        code, _, err = run(capsys, monkeypatch, *forget)
        assert (code, "--retrain needs the trainer's packages" in err) == (1, True)
    assert "oboe" in run(capsys, monkeypatch, *command, "list", *whose)[1]
    code, out, _ = run(capsys, monkeypatch, *forget, "--json")
    told = json.loads(out)
    assert (code, told["memories"], told["was"], told["retrained"]) == (0, 1, {}, [])


def test_memories_go_out_to_a_file_and_come_in_from_it_once(
    server_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--home", str(server_home), "memory")
    source, target = ("--namespace", "user/exporting"), ("--namespace", "user/importing")
    mem0 = Path(__file__).parents[2] / "data" / "imports" / "mem0.json"
    code, out, _ = run(capsys, monkeypatch, *command, "import", str(mem0), *source)
    assert (code, out) == (0, "2 memories are there\n")
    file = tmp_path / "memories.jsonl"
    code, _, err = run(capsys, monkeypatch, *command, "export", str(file), *source)
    assert (code, err) == (0, f"2 memories written to {file}\n")
    for _ in range(2):
        code, out, _ = run(capsys, monkeypatch, *command, "import", str(file), *target, "--json")
        assert (code, json.loads(out)) == (0, {"imported": 2})
    listed = json.loads(run(capsys, monkeypatch, *command, "list", *target, "--json")[1])
    assert [memory["text"] for memory in listed] == ["Bo moved to Kelbo", "Bo plays the cello"]
    assert {memory["seq_from"] for memory in listed} == {1}
    assert listed[1]["metadata"] == {"topic": "music", "user_id": "bo"}
    code, out, _ = run(capsys, monkeypatch, *command, "history", "b9f1c0de-0001", *target)
    assert code == 0
    assert "Bo plays the cello" in out
    assert "now" in out


def test_status_says_where_the_server_is_and_whether_it_is_ready(
    server_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "--home", str(server_home), "status", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["running"]
    assert found["ready"]
    assert found["url"].startswith("http://127.0.0.1:")
    assert "engine_url" in found
    code, out, _ = run(capsys, monkeypatch, "--home", str(server_home), "status")
    assert code == 0
    assert f"{found['url']}  pid {found['pid']}  ready" in out


def test_status_tells_of_a_canary_until_it_is_taken_back(
    server_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, registry = ("--home", str(server_home)), Registry(server_home / "adapters")
    canary = Canary(over=None, share=0.1, min_rewards=50, max_hours=48, margin=0.05)
    registry.publish(tmp_path / "c", made(tmp_path / "c", 1).model_copy(update={"policy": "tried"}), canary=canary)
    _, out, err = run(capsys, monkeypatch, *command, "status")
    assert not err
    assert "tried@v1 answers 10% of new sessions until " in out
    assert "at most: 0 rewarded sessions against 0\n" in out
    assert run(capsys, monkeypatch, *command, "adapters", "rollback", "tried")[0] == 0
    assert "answers 10%" not in run(capsys, monkeypatch, *command, "status")[1]


@pytest.mark.parametrize("arguments", [("memory", "list"), ("memory", "search", "x")])
def test_without_a_server_commands_say_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    code, _, err = run(capsys, monkeypatch, "--home", str(tmp_path), *arguments)
    assert code == 1
    assert f"recollect --home {tmp_path} serve" in err


def test_status_without_a_server_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "--home", str(tmp_path), "status", "--json")
    assert code == 1
    assert json.loads(out)["running"] is False


def test_without_a_server_adapters_are_read_from_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        (tmp_path / "adapters" / "local" / "memory" / f"v{version}").mkdir(parents=True)
    home = ("--home", str(tmp_path))
    code, out, _ = run(capsys, monkeypatch, *home, "adapters", "promote", "memory@v2", "--json")
    [state] = json.loads(out)
    assert (code, state["policy"], state["current"]) == (0, "memory", 2)
    assert [version["name"] for version in state["versions"]] == ["memory@v1", "memory@v2"]
    _, out, _ = run(capsys, monkeypatch, *home, "adapters", "list")
    assert "memory@v2  current" in out
    code, _, err = run(capsys, monkeypatch, *home, "adapters", "promote", "memory@v9")
    assert code == 1
    assert "no version 9" in err
    code, _, err = run(capsys, monkeypatch, *home, "adapters", "promote", "memory")
    assert code == 1
    assert "POLICY@v" in err
    code, out, _ = run(capsys, monkeypatch, *home, "adapters", "promote", "memory@base", "--json")
    assert json.loads(out)[0]["current"] is None
