"""The cursor of the trajectory log: every event is taken once for each policy, whatever is written, packed, forgotten or killed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recollect.errors import Conflict, NewerLog, NotFound
from recollect.events import LogEvent
from recollect.log import LogWriter, mark_consumed, read_log
from recollect.log_cursor import WindowContents, finish, give_back, read_new, read_taken, runs, take, taken_by
from recollect.log_files import encode
from recollect.log_retention import consumed, retire
from recollect.settings import LogSettings
from recollect.trajectory import Reward
from tests.unit.recollect.log_cases import event_of, feedback_of, trajectory

SMALL = LogSettings(segment_bytes=3000)
WHO = {"pool": "local", "policy": "memory"}


def new(root: Path, policy: str = "memory") -> WindowContents:
    return read_new(root, pool="local", policy=policy)


def taken_now(root: Path, run: str, policy: str = "memory") -> frozenset[str]:
    """Take what is new, and return it."""
    found = new(root, policy)
    take(root, run, found.window, pool="local", policy=policy)
    return found.fresh


def write(root: Path, *names: str) -> None:
    writer = LogWriter(root, SMALL)
    for name in names:
        writer.append(event_of(trajectory(name)))
    writer.close()


def test_what_a_run_took_is_new_to_no_later_run_of_the_policy_and_to_every_other_policy(tmp_path: Path) -> None:
    write(tmp_path, "t0", "t1")
    assert taken_now(tmp_path, "a") == {"t0", "t1"}
    write(tmp_path, "t2")
    found = new(tmp_path)
    assert found.fresh == {"t2"}
    assert [one.trajectory.id for one in found.trajectories] == ["t0", "t1", "t2"]
    assert new(tmp_path, "reader").fresh == {"t0", "t1", "t2"}


def test_reading_takes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    assert new(tmp_path) == new(tmp_path)
    assert new(tmp_path).fresh == {"t0"}


def test_an_open_segment_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogSettings())
    writer.append(event_of(trajectory("t0")))
    [segment] = tmp_path.glob("*.jsonl")
    half = encode(event_of(trajectory("t1")))
    with segment.open("ab") as file:
        file.write(half[:50])
    assert taken_now(tmp_path, "a") == {"t0"}
    with segment.open("ab") as file:
        file.write(half[50:])
    assert taken_now(tmp_path, "b") == {"t1"}
    writer.close()
    assert new(tmp_path).fresh == set()


def test_feedback_makes_a_trajectory_new_again_and_late_steps_and_scores_do_not(tmp_path: Path) -> None:
    write(tmp_path, "t0", "t1", "t2", "t3")
    taken_now(tmp_path, "a")
    writer = LogWriter(tmp_path, SMALL)
    writer.append(feedback_of("t0", label="up"))
    for name, source in (("t1", "feedback"), ("t2", "next_turn")):
        reward = Reward(name="x", score=1.0, metadata={"source": source})
        writer.append(LogEvent(event_id=f"r-{name}", trajectory_id=name, kind="reward", body=reward.model_dump(mode="json")))
    writer.append(LogEvent(event_id="s-t3", trajectory_id="t3", kind="steps", body={"steps": []}))
    writer.close()
    assert new(tmp_path).fresh == {"t0", "t2"}


def test_a_repeated_event_is_not_new(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    taken_now(tmp_path, "a")
    write(tmp_path, "t0", "t1")
    assert new(tmp_path).fresh == {"t1"}


def test_a_segment_that_began_earlier_is_new_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    taken_now(tmp_path, "a")
    name = "20200101T000000.000000-7"
    (tmp_path / f"{name}.jsonl").write_bytes(encode(event_of(trajectory("late"))))
    found = new(tmp_path)
    assert found.fresh == {"late"}
    assert found.window.fresh == {name: ((0, 1),)}


def test_events_of_a_clock_that_is_ahead_are_counted_and_taken_once(tmp_path: Path) -> None:
    ahead = event_of(trajectory("t0")).model_copy(update={"ts": "2999-01-01T00:00:00Z"})
    event = LogEvent.model_validate(ahead.model_dump(by_alias=True, warnings=False))
    (tmp_path / "20260101T000000.000000-7.jsonl").write_bytes(encode(event) + encode(event_of(trajectory("t1"))))
    found = new(tmp_path)
    assert found.num_later == 1
    assert [one.trajectory.id for one in found.trajectories] == ["t0", "t1"]
    assert taken_now(tmp_path, "a") == {"t0", "t1"}
    assert new(tmp_path).fresh == set()


def test_a_resumed_run_sees_what_it_took_and_nothing_that_came_after(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    taken_now(tmp_path, "a")
    write(tmp_path, "t1")
    before = new(tmp_path)
    taken = take(tmp_path, "b", before.window, **WHO)
    write(tmp_path, "t2", "t3")
    again = taken_by(tmp_path, "b")
    assert again == taken
    found = read_taken(tmp_path, taken)
    assert (found.fresh, found.trajectories) == (before.fresh, before.trajectories)
    assert new(tmp_path).fresh == {"t2", "t3"}


def test_forgetting_moves_no_line(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    for index in range(6):
        writer.append(event_of(trajectory(f"t{index}")))
    taken = take(tmp_path, "a", new(tmp_path).window, **WHO)
    writer.append(event_of(trajectory("after")))
    writer.redact(["t2", "t5"])
    writer.close()
    assert new(tmp_path).fresh == {"after"}
    found = read_taken(tmp_path, taken)
    assert found.fresh == {f"t{index}" for index in range(6)}
    assert found.corrupt_lines == []


def test_what_was_taken_meanwhile_is_refused_and_the_same_again_is_not(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    window = new(tmp_path).window
    take(tmp_path, "a", window, **WHO)
    take(tmp_path, "a", window, **WHO)
    with pytest.raises(Conflict, match="run a has taken events"):
        take(tmp_path, "b", window, **WHO)
    take(tmp_path, "b", window, pool="local", policy="reader")
    assert [one.run_id for one in runs(tmp_path, **WHO)] == ["a"]


def test_what_an_unfinished_run_took_can_be_made_new_again(tmp_path: Path) -> None:
    write(tmp_path, "t0")
    taken_now(tmp_path, "a")
    write(tmp_path, "t1")
    taken_now(tmp_path, "b")
    give_back(tmp_path, "a")
    assert new(tmp_path).fresh == {"t0"}
    finish(tmp_path, "b")
    with pytest.raises(Conflict, match="has finished"):
        give_back(tmp_path, "b")
    with pytest.raises(NotFound, match="has taken nothing"):
        give_back(tmp_path, "a")


def test_retention_keeps_what_another_policy_or_an_unfinished_run_will_read(tmp_path: Path) -> None:
    write(tmp_path, *(f"t{index}" for index in range(8)))
    names = read_log(tmp_path).segments
    nothing = LogSettings(keep_bytes=0)
    taken_now(tmp_path, "a")
    mark_consumed(tmp_path, "a", names, policy="memory")
    assert retire(tmp_path, nothing) == []
    finish(tmp_path, "a")
    mark_consumed(tmp_path, "b", names[:1], policy="reader")
    assert consumed(tmp_path) == set(names[:1])
    assert retire(tmp_path, nothing) == names[:1]
    assert new(tmp_path).fresh == set()
    mark_consumed(tmp_path, "b", names, policy="reader")
    assert retire(tmp_path, nothing) == names[1:]


def test_a_corrupt_line_is_taken_with_the_others_and_named(tmp_path: Path) -> None:
    path = tmp_path / "20260101T000000.000000-7.jsonl"
    path.write_bytes(encode(event_of(trajectory("t0"))) + b"not json\n" + encode(event_of(trajectory("t1"))))
    found = new(tmp_path)
    assert [(line.segment, line.line) for line in found.corrupt_lines] == [("20260101T000000.000000-7", 2)]
    assert taken_now(tmp_path, "a") == {"t0", "t1"}
    with path.open("ab") as file:
        file.write(encode(event_of(trajectory("t2"))))
    assert new(tmp_path).fresh == {"t2"}


@pytest.mark.parametrize("line", [{"schema": 9, "what": "is this"}, json.loads(encode(event_of(trajectory("t")))) | {"schema": 9}])
def test_a_newer_log_is_refused_by_its_version_and_left_as_it_is(tmp_path: Path, line: dict[str, object]) -> None:
    write(tmp_path, "t0")
    path = tmp_path / "20990101T000000.000000-7.jsonl"
    path.write_text(json.dumps(line) + "\n")
    for read in (lambda: new(tmp_path), lambda: read_log(tmp_path)):
        with pytest.raises(NewerLog, match=r"line 1 has schema 9, and this version reads up to 1; upgrade Recollect"):
            read()
    assert path.exists()


class Home:
    """A log that several writers append to, and the runs of a policy over it, some of them killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writers = [LogWriter(root, SMALL), LogWriter(root, SMALL)]
        self.written: list[str] = []
        self.taken: Counter[str] = Counter()
        self.unfinished: list[tuple[str, frozenset[str]]] = []
        self.number = 0

    def do(self, what: str, which: int) -> None:
        getattr(self, what)(which)

    def append(self, which: int) -> None:
        name = f"t{len(self.written):03}"
        self.writers[which % 2].append(event_of(trajectory(name)))
        self.written.append(name)

    def rotate(self, which: int) -> None:
        self.writers[which % 2].redact([])

    def restart(self, which: int) -> None:
        self.writers[which % 2].close()
        self.writers[which % 2] = LogWriter(self.root, SMALL)

    def forget(self, which: int) -> None:
        if self.written:
            for writer in self.writers:
                writer.redact([])
            self.writers[which % 2].redact([self.written[which % len(self.written)]])

    def run(self, which: int) -> None:
        """A run that dies before it takes, one that dies afterwards, or one that finishes."""
        found, name = new(self.root), f"run{self.number}"
        self.number += 1
        if which % 3 == 0:
            return
        take(self.root, name, found.window, **WHO)
        self.taken.update(found.fresh)
        if which % 3 == 1:
            self.unfinished.append((name, found.fresh))
        else:
            finish(self.root, name)
            mark_consumed(self.root, name, found.closed, policy="memory")

    def resume(self, which: int) -> None:
        if self.unfinished:
            name, fresh = self.unfinished.pop(which % len(self.unfinished))
            taken = taken_by(self.root, name)
            assert taken is not None
            assert read_taken(self.root, taken).fresh == fresh
            finish(self.root, name)

    def retire(self, _: int) -> None:
        for writer in self.writers:
            writer.settle()
        retire(self.root, LogSettings(keep_bytes=4000))


STEPS = st.tuples(
    st.sampled_from(["append"] * 6 + ["run"] * 3 + ["rotate", "restart", "forget", "resume", "retire"]),
    st.integers(min_value=0, max_value=50),
)


@given(st.lists(STEPS, max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_taken_twice_and_nothing_is_left_out(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for what, which in steps:
            home.do(what, which)
        home.run(2)
        for writer in home.writers:
            writer.close()
        home.run(2)
        assert home.taken == Counter(home.written)
        assert new(home.root).fresh == set()


TAKE_UNTIL_KILLED = """
import itertools, os, sys
from pathlib import Path
from recollect.log_cursor import read_new, take
root = Path(sys.argv[1])
for number in itertools.count():
    found = read_new(root, pool="local", policy="memory")
    if found.fresh:
        take(root, f"{sys.argv[2]}-{number}", found.window, pool="local", policy="memory")
    os.write(1, b".")
"""


def test_a_run_killed_at_any_moment_has_taken_all_that_its_file_names_or_nothing(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, SMALL)
    names: list[str] = []
    for killed in range(4):
        with subprocess.Popen([sys.executable, "-c", TAKE_UNTIL_KILLED, str(tmp_path), f"k{killed}"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            for _ in range(15):
                names.append(f"t{len(names)}")
                writer.append(event_of(trajectory(names[-1])))
            process.stdout.read(1 + killed)
            process.kill()
    writer.close()
    taken_now(tmp_path, "last")
    seen = Counter(name for run in runs(tmp_path, **WHO) for name in read_taken(tmp_path, run).fresh)
    assert seen == Counter(names)
