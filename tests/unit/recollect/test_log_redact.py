"""Forgetting in the trajectory log: the text is gone from the disk, the tombstone still reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from recollect.errors import Conflict, CorruptLog
from recollect.log import LogWriter, read_log, redact
from recollect.memory import content_hash
from recollect.settings import LogSettings
from tests.unit.recollect.log_cases import event_of, feedback_of, step, steps_of, trajectory
from tests.unit.recollect.test_log import corrupt_a_line

SMALL = LogSettings(segment_bytes=4096)


def everything(root: Path) -> bytes:
    """All bytes under the folder, unpacked."""
    files = [path for path in root.rglob("*") if path.is_file()]
    unpack = zstandard.ZstdDecompressor().decompress
    return b"".join(unpack(path.read_bytes()) if path.suffix == ".zst" else path.read_bytes() for path in files)


def written(root: Path, *, count: int = 12) -> LogWriter:
    writer = LogWriter(root, SMALL)
    for index in range(count):
        writer.append(event_of(trajectory(f"t{index}", answer=f"secret answer of t{index}")))
        writer.append(steps_of(f"t{index}", [step(1, text=f"secret step of t{index}")], {"user/42": 8}))
        writer.append(feedback_of(f"t{index}", score=1.0, correction=f"secret correction of t{index}", comment="secret comment"))
    return writer


def test_text_and_tokens_are_gone_and_a_parseable_tombstone_stays(tmp_path: Path) -> None:
    writer = written(tmp_path, count=1)
    writer.redact(["t0"])
    writer.close()
    content = everything(tmp_path)
    assert b"secret" not in content
    assert content_hash("secret memory").encode() not in content
    [logged] = read_log(tmp_path, strict=True).trajectories
    assert logged.redacted
    trajectory_ = logged.trajectory
    assert (trajectory_.id, trajectory_.namespace, trajectory_.agent) == ("t0", "user/42", "memory")
    assert trajectory_.memory_seq_after == {"user/42": 8}
    assert not trajectory_.trainable
    for blank in trajectory_.steps:
        assert (blank.text, blank.prompt_ids, blank.completion_ids, blank.logprobs) == ("", None, None, None)
        assert blank.usage.total_tokens == 5
        assert blank.policy is not None
    [feedback] = logged.feedback
    assert not feedback.accepted


def test_only_what_is_named_is_forgotten_in_open_and_closed_segments(tmp_path: Path) -> None:
    writer = written(tmp_path)
    before = {logged.trajectory.id: logged for logged in read_log(tmp_path).trajectories}
    assert writer.redact(["t1", "t11"]) == 6
    for logged in read_log(tmp_path, strict=True).trajectories:
        name = logged.trajectory.id
        assert logged.redacted == (name in {"t1", "t11"})
        assert logged.redacted or logged == before[name]
    writer.close()
    content = everything(tmp_path)
    assert b"secret answer of t10" in content
    assert b"of t11" not in content


def test_forgetting_twice_changes_nothing_more(tmp_path: Path) -> None:
    writer = written(tmp_path)
    writer.close()
    assert redact(tmp_path, ["t3"]) == 3
    content = everything(tmp_path)
    assert redact(tmp_path, ["t3"]) == 0
    assert everything(tmp_path) == content


def test_what_comes_after_forgetting_is_blanked_as_it_is_written(tmp_path: Path) -> None:
    writer = written(tmp_path, count=2)
    writer.redact(["t0"])
    writer.append(feedback_of("t0", comment="a late secret"))
    writer.append(feedback_of("t1", comment="a late word"))
    writer.close()
    content = everything(tmp_path)
    assert b"a late secret" not in content
    assert b"a late word" in content


def test_a_crashed_rewrite_leaves_the_old_segment_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path).close()
    content = everything(tmp_path)

    def failing(self: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output"):
            redact(tmp_path, ["t3"])
    assert everything(tmp_path) == content
    assert redact(tmp_path, ["t3"]) == 3


HOLD = """
import sys
from pathlib import Path
from recollect.log import LogWriter
from recollect.settings import LogSettings
from tests.unit.recollect.log_cases import event_of, trajectory
writer = LogWriter(Path(sys.argv[1]), LogSettings())
writer.append(event_of(trajectory("theirs")))
print("written", flush=True)
sys.stdin.read()
writer.close()
"""


def test_what_another_process_is_writing_is_refused_not_half_forgotten(tmp_path: Path) -> None:
    written(tmp_path).close()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"
        content = everything(tmp_path)
        with pytest.raises(Conflict, match="another process"):
            redact(tmp_path, ["t3", "theirs"])
        assert everything(tmp_path) == content
        assert redact(tmp_path, ["t3"]) == 3
        other.communicate(timeout=30)
    assert redact(tmp_path, ["theirs"]) == 1
    assert b"theirs" in everything(tmp_path)


def test_a_corrupt_line_that_names_a_forgotten_trajectory_goes_too(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogSettings())
    for index in range(3):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.close()
    corrupt_a_line(tmp_path)
    [path] = tmp_path.glob("*.zst")
    broken = zstandard.ZstdDecompressor().decompress(path.read_bytes()).replace(b'"event_id": ', b'"event_id": "t1 secret of t1')
    path.write_bytes(zstandard.ZstdCompressor().compress(broken))
    assert redact(tmp_path, ["t1"]) == 1
    assert b"secret of t1" not in everything(tmp_path)


def test_a_segment_that_cannot_be_read_to_its_end_is_an_error(tmp_path: Path) -> None:
    written(tmp_path).close()
    path = sorted(tmp_path.glob("*.zst"))[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptLog):
        redact(tmp_path, ["t0"])


def test_forgetting_in_a_log_that_does_not_exist_blanks_nothing(tmp_path: Path) -> None:
    assert redact(tmp_path / "none", ["t"]) == 0
