"""The trajectory log: what is written is read, rotation, several writers, corrupt lines, retention."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import CorruptLog, RecollectError
from recollect.events import LogEvent
from recollect.log import LogWriter, mark_consumed, read_events, read_log
from recollect.settings import LogSettings
from recollect.trajectory import now
from tests.unit.recollect.log_cases import event_of, trajectory

SMALL = LogSettings(segment_bytes=4096)


def ids(root: Path) -> list[str]:
    return [event.event_id for event in read_events(root)]


def packed(root: Path) -> list[Path]:
    return sorted(root.glob("*.zst"))


def test_what_is_appended_is_read_at_once_and_after_closing(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogSettings())
    expected = trajectory("t1", steps=3)
    writer.append(event_of(expected))
    assert [logged.trajectory for logged in read_log(tmp_path / "log").trajectories] == [expected]
    writer.close()
    contents = read_log(tmp_path / "log")
    assert [logged.trajectory for logged in contents.trajectories] == [expected]
    assert contents.corrupt_lines == []
    assert contents.segments == [packed(tmp_path / "log")[0].name.removesuffix(".jsonl.zst")]


def test_a_log_that_does_not_exist_is_an_empty_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none").trajectories == []


def test_files_are_private(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", SMALL)
    for index in range(12):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.settle()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "log").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    writer.close()


def test_segments_rotate_by_size_and_closed_ones_are_packed_in_order(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    events = [event_of(trajectory(f"t{index:02}")) for index in range(20)]
    for event in events:
        writer.append(event)
    writer.settle()
    assert len(packed(tmp_path)) >= 5
    assert len(list(tmp_path.glob("*.jsonl"))) <= 1
    assert ids(tmp_path) == [event.event_id for event in events]
    writer.close()
    assert ids(tmp_path) == [event.event_id for event in events]
    assert not list(tmp_path.glob("*.jsonl"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_closed_writer_refuses(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    writer.close()
    with pytest.raises(RecollectError, match="was closed"):
        writer.append(event_of(trajectory("t")))


def test_a_log_switched_off_writes_nothing(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogSettings(enabled=False))
    writer.append(event_of(trajectory("t")))
    writer.close()
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("fsync", [False, True])
async def test_coroutines_log_too(tmp_path: Path, fsync: bool) -> None:
    writer = LogWriter(tmp_path, LogSettings(fsync=fsync, segment_bytes=4096))
    await asyncio.gather(*(writer.log(event_of(trajectory(f"t{index}"))) for index in range(20)))
    assert sorted(ids(tmp_path)) == sorted(f"e-t{index}" for index in range(20))
    await asyncio.to_thread(writer.close)


WRITE = """
import sys
from pathlib import Path
from recollect.log import LogWriter
from recollect.settings import LogSettings
from tests.unit.recollect.log_cases import event_of, trajectory
writer = LogWriter(Path(sys.argv[1]), LogSettings(segment_bytes=8192))
for index in range(int(sys.argv[3])):
    writer.append(event_of(trajectory(f"{sys.argv[2]}-{index}")))
writer.close()
"""


def test_two_processes_write_and_a_third_reads_meanwhile(tmp_path: Path) -> None:
    count = 150
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), name, str(count)]) for name in "ab"]
    last = 0
    while any(writer.poll() is None for writer in writers):
        seen = len(ids(tmp_path))
        assert seen >= last
        last = seen
    assert [writer.wait(30) for writer in writers] == [0, 0]
    found = ids(tmp_path)
    assert len(found) == len(set(found)) == 2 * count
    for name in "ab":
        assert [event for event in found if f"-{name}-" in event] == [f"e-{name}-{index}" for index in range(count)]


def test_events_of_several_writers_are_merged_by_time(tmp_path: Path) -> None:
    writers = [LogWriter(tmp_path, LogSettings(segment_bytes=3000)) for _ in range(3)]
    begin = now() + timedelta(seconds=1)
    for index in range(30):
        event = event_of(trajectory(f"t{index:02}")).model_copy(update={"ts": begin + timedelta(milliseconds=index)})
        writers[index % 3].append(event)
    for writer in writers:
        writer.close()
    assert ids(tmp_path) == [f"e-t{index:02}" for index in range(30)]


def corrupt_a_line(root: Path) -> None:
    [path] = packed(root)
    lines = zstandard.ZstdDecompressor().decompress(path.read_bytes()).splitlines(keepends=True)
    lines[1] = b'{"schema": 1, "event_id": \n'
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(lines)))


def test_a_corrupt_line_is_named_and_skipped_or_refused(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogSettings())
    for index in range(3):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.close()
    corrupt_a_line(tmp_path)
    contents = read_log(tmp_path)
    assert [logged.trajectory.id for logged in contents.trajectories] == ["t0", "t2"]
    [line] = contents.corrupt_lines
    assert line.line == 2
    assert line.segment in packed(tmp_path)[0].name
    with pytest.raises(CorruptLog, match="line 2"):
        read_log(tmp_path, strict=True)
    with pytest.raises(CorruptLog, match="line 2"):
        ids(tmp_path)


def test_an_event_whose_body_is_wrong_is_a_corrupt_line_and_the_rest_is_folded(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogSettings())
    writer.append(LogEvent(event_id="bad", trajectory_id="t0", kind="trajectory", body={"id": "t0"}))
    writer.append(event_of(trajectory("t1")))
    contents = read_log(tmp_path)
    assert [logged.trajectory.id for logged in contents.trajectories] == ["t1"]
    assert "tenant" in contents.corrupt_lines[0].reason
    writer.close()


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_packed_segment_is_reported_never_silently_short(tmp_path: Path, damage: str) -> None:
    writer = LogWriter(tmp_path, LogSettings())
    for index in range(50):
        writer.append(event_of(trajectory(f"t{index}", answer=os.urandom(200).hex())))
    writer.close()
    [path] = packed(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 255
    path.write_bytes(content)
    contents = read_log(tmp_path)
    assert len(contents.corrupt_lines) >= 1
    assert len(contents.trajectories) < 50 or damage == "flip"


def test_nothing_is_deleted_that_no_training_run_has_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = LogSettings(segment_bytes=4096, keep_bytes=1)
    writer = LogWriter(tmp_path, small)
    for index in range(20):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.close()
    assert len(ids(tmp_path)) == 20
    assert "not read by every policy" in caplog.text


def test_what_training_has_read_is_retired_oldest_first_down_to_the_budget(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    for index in range(20):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.close()
    names = read_log(tmp_path).segments
    mark_consumed(tmp_path, "run1", names[1:3])
    sizes = sum(path.stat().st_size for path in packed(tmp_path))
    LogWriter(tmp_path, LogSettings(keep_bytes=sizes - 1)).close()
    assert read_log(tmp_path).segments == [names[0], *names[2:]]
    LogWriter(tmp_path, LogSettings(keep_bytes=1)).close()
    assert read_log(tmp_path).segments == [names[0], *names[3:]]


def test_old_segments_go_by_age(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    for index in range(10):
        writer.append(event_of(trajectory(f"t{index}")))
    writer.close()
    names = read_log(tmp_path).segments
    mark_consumed(tmp_path, "run1", names)
    old = (now() - timedelta(days=8)).timestamp()
    os.utime(packed(tmp_path)[0], (old, old))
    LogWriter(tmp_path, LogSettings(keep_days=7)).close()
    assert read_log(tmp_path).segments == names[1:]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
events = st.builds(
    LogEvent,
    event_id=st.uuids().map(str),
    trajectory_id=texts,
    kind=st.just("redaction"),
    body=st.dictionaries(texts, st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts, st.lists, max_leaves=5)),
)


@given(st.lists(events, max_size=20), st.integers(200, 2000))
@settings(max_examples=30, deadline=None)
def test_any_events_come_back_as_they_were(written: list[LogEvent], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = LogWriter(Path(folder), LogSettings(segment_bytes=segment_bytes))
        for event in written:
            writer.append(event)
        assert list(read_events(Path(folder))) == written
        writer.close()
        assert list(read_events(Path(folder))) == written
