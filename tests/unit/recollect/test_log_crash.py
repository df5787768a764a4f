"""What happens to the trajectory log when a process is killed, the disk is full, or both."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recollect.errors import InvalidRequest, StorageFull
from recollect.events import LogEvent
from recollect.log import LogWriter, read_events, read_log
from recollect.log_files import encode
from recollect.settings import LogSettings
from tests.conftest import scaled
from tests.unit.recollect.log_cases import event_of, trajectory

SMALL = LogSettings(segment_bytes=60_000)
WRITE_UNTIL_KILLED = """
import itertools, os, sys
from pathlib import Path
from recollect.log import LogWriter
from recollect.settings import LogSettings
from tests.unit.recollect.log_cases import event_of, trajectory
writer = LogWriter(Path(sys.argv[1]), LogSettings(segment_bytes=60_000))
for index in itertools.count():
    writer.append(event_of(trajectory(f"{sys.argv[2]}-{index}", steps=8)))
    os.write(1, f"{index}\\n".encode())
"""


def open_segments(root: Path) -> list[Path]:
    return sorted(root.glob("*.jsonl"))


def killed_writer(root: Path, name: str, delay_s: float) -> list[str]:
    """Ids of the events that a process acknowledged until it was killed, `delay_s` after its first one."""
    with subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(root), name], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(delay_s)  # the moment of the kill is what is tried
        process.send_signal(signal.SIGKILL)
        acknowledged = (first + process.stdout.read()).splitlines()
    return [f"e-{name}-{index.decode()}" for index in acknowledged]


def test_kill_minus_nine_loses_no_acknowledged_event_and_yields_no_torn_one(tmp_path: Path) -> None:
    moments = random.Random(7)
    kills = 5
    for root in (tmp_path / f"log{batch}" for batch in range(max(1, scaled(kills) // kills))):
        acknowledged: list[str] = []
        for round_ in range(kills):
            acknowledged += killed_writer(root, f"r{round_}", moments.uniform(0, 0.15))
            found = [event.event_id for event in read_events(root)]
            assert set(acknowledged) <= set(found)
            assert len(found) == len(set(found))
            # At most the one event that was being written when the kill came is there without having been acknowledged.
            assert len(found) <= len(acknowledged) + round_ + 1
        assert read_log(root, strict=True).corrupt_lines == []


def test_what_a_killed_process_left_open_is_adopted_by_the_next_writer(tmp_path: Path) -> None:
    acknowledged = killed_writer(tmp_path, "dead", 0.05)
    assert open_segments(tmp_path)
    writer = LogWriter(tmp_path, SMALL)
    writer.settle()
    assert not open_segments(tmp_path)
    assert set(acknowledged) <= {event.event_id for event in read_events(tmp_path)}
    writer.close()


def test_a_torn_last_line_is_left_out_then_cut_off_and_counted(tmp_path: Path) -> None:
    lines = [encode(event_of(trajectory(f"t{index}"))) for index in range(3)]
    (tmp_path / "20200101T000000.000000-1.jsonl").write_bytes(b"".join(lines)[:-40])
    assert [event.event_id for event in read_events(tmp_path)] == ["e-t0", "e-t1"]
    writer = LogWriter(tmp_path, SMALL)
    writer.settle()
    assert writer.torn_lines == 1
    assert [event.event_id for event in read_events(tmp_path)] == ["e-t0", "e-t1"]
    assert read_log(tmp_path, strict=True).corrupt_lines == []
    writer.close()


def test_the_open_segment_of_a_live_process_is_left_alone(tmp_path: Path) -> None:
    living = LogWriter(tmp_path, SMALL)
    living.append(event_of(trajectory("t0")))
    other = LogWriter(tmp_path, SMALL)
    other.close()
    assert len(open_segments(tmp_path)) == 1
    living.append(event_of(trajectory("t1")))
    assert [event.event_id for event in read_events(tmp_path)] == ["e-t0", "e-t1"]
    living.close()


def test_a_crash_between_packing_and_removing_gives_each_event_once(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    writer.append(event_of(trajectory("t0")))
    [path] = open_segments(tmp_path)
    content = path.read_bytes()
    writer.close()
    path.write_bytes(content)
    assert [event.event_id for event in read_events(tmp_path)] == ["e-t0"]
    LogWriter(tmp_path, SMALL).close()
    assert not path.exists()
    assert [event.event_id for event in read_events(tmp_path)] == ["e-t0"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond `size` bytes: a write is cut short there, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fsync", [False, True])
def test_a_full_disk_is_an_error_and_leaves_no_partial_line(tmp_path: Path, fsync: bool) -> None:
    writer = LogWriter(tmp_path, LogSettings(segment_bytes=10**6, fsync=fsync))
    writer.append(event_of(trajectory("before")))
    [path] = open_segments(tmp_path)
    size = path.stat().st_size
    with file_size_limit(size + 100), pytest.raises(StorageFull, match="free space"):
        writer.append(event_of(trajectory("refused")))
    assert path.stat().st_size == size
    writer.append(event_of(trajectory("after")))
    assert [event.event_id for event in read_events(tmp_path)] == ["e-before", "e-after"]
    writer.close()
    assert read_log(tmp_path, strict=True).corrupt_lines == []


def test_when_even_the_cut_fails_the_next_event_goes_to_a_fresh_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path, LogSettings(segment_bytes=10**6))
    writer.append(event_of(trajectory("before")))
    size = open_segments(tmp_path)[0].stat().st_size

    def failing(fd: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, file_size_limit(size + 100):
        patched.setattr(os, "ftruncate", failing)
        with pytest.raises(StorageFull):
            writer.append(event_of(trajectory("refused")))
        writer.settle()
    writer.append(event_of(trajectory("after")))
    assert [event.event_id for event in read_events(tmp_path)] == ["e-before", "e-after"]
    writer.close()


def test_a_closed_segment_that_cannot_be_packed_stays_readable_and_is_packed_later(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogSettings(segment_bytes=10**6))
    for index in range(20):
        writer.append(event_of(trajectory(f"t{index}", answer=os.urandom(500).hex())))
    with file_size_limit(1000):
        writer.close()
    assert len(open_segments(tmp_path)) == 1
    assert not list(tmp_path.glob(".*.tmp"))
    assert len(list(read_events(tmp_path))) == 20
    LogWriter(tmp_path, SMALL).close()
    assert not open_segments(tmp_path)
    assert len(list(read_events(tmp_path))) == 20


def test_text_that_is_no_unicode_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    with pytest.raises(InvalidRequest, match="cannot be written"):
        writer.append(LogEvent(event_id="e", trajectory_id="t", kind="redaction", body={"text": "\ud800"}))
    writer.append(event_of(trajectory("after")))
    assert [event.event_id for event in read_events(tmp_path)] == ["e-after"]
    writer.close()
