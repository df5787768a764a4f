"""The reranker that learns: exact through restarts, one process at a time, frozen, rolled back, forgotten."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.errors import ConfigurationError, InvalidRequest, NotFound
from recollect.settings import RmmSettings
from server.agents.rmm.online import OnlineReranker
from server.agents.rmm.rerankers import Rerankers
from server.agents.rmm.states import CURRENT, PENDING

D, K, M = 8, 12, 3


def _opened(root: Path, **settings: Any) -> Rerankers:
    return Rerankers(root, RmmSettings.model_validate(settings))


def _of(rerankers: Rerankers, tenant: str = "acme") -> OnlineReranker:
    return rerankers.of(tenant, "hash-8", D)


def _ask(rerankers: Rerankers, numbers: range, tenant: str = "acme") -> list[list[int]]:
    """Each request draws, and what has an even place is cited. Returns what was chosen."""
    chosen: list[list[int]] = []
    for number in numbers:
        rng = np.random.default_rng(number)
        query, memories = rng.normal(size=D).astype(np.float32), rng.normal(size=(K, D)).astype(np.float32)
        choice = _of(rerankers, tenant).draw(f"t{number}", query, memories, M)
        places = [int(place) for place in choice.chosen]
        chosen.append(places)
        rerankers.learn(tenant, f"t{number}", {place: 1.0 if place % 2 == 0 else -1.0 for place in places})
    return chosen


def _same(one: OnlineReranker, other: OnlineReranker) -> bool:
    a, b = one.state, other.state
    return (
        np.array_equal(a.weights.query, b.weights.query)
        and np.array_equal(a.weights.memory, b.weights.memory)
        and (a.step, a.learned, len(a.pending)) == (b.step, b.learned, len(b.pending))
    )


@pytest.mark.parametrize("restarts", [(1,), (4,), (5, 6, 7), tuple(range(1, 30))])
def test_a_restart_changes_nothing(tmp_path: Path, restarts: tuple[int, ...]) -> None:
    whole = _opened(tmp_path / "whole")
    expected = _ask(whole, range(30))
    found: list[list[int]] = []
    for begin, end in zip((0, *restarts), (*restarts, 30), strict=True):
        part = _opened(tmp_path / "parts")
        found += _ask(part, range(begin, end))
        part.close()
    assert found == expected
    again = _opened(tmp_path / "parts")
    assert _same(_of(again), _of(whole))
    assert (_of(whole).state.step, _of(whole).state.learned, len(_of(whole).state.pending)) == (7, 30, 2)
    assert np.any(_of(whole).state.weights.query)


@pytest.mark.parametrize("kill_after", [2, 7, 12])
def test_a_killed_process_loses_at_most_the_answer_that_it_was_learning_from(tmp_path: Path, kill_after: int) -> None:
    script = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), os.getcwd()]!r}
from pathlib import Path
from test_rmm_online import _ask, _opened
rerankers = _opened(Path({str(tmp_path / "killed")!r}))
for number in range(1000):
    _ask(rerankers, range(number, number + 1))
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(kill_after):
            process.stdout.readline()
        process.kill()
        told = kill_after + len(process.stdout.readlines())
    killed, whole = _opened(tmp_path / "killed"), _opened(tmp_path / "whole")
    learned = _of(killed).state.learned
    assert told <= learned <= told + 1
    _ask(killed, range(learned, learned + 5))
    _ask(whole, range(learned + 5))
    assert _same(_of(killed), _of(whole))


def test_a_draw_without_an_outcome_changes_nothing(tmp_path: Path) -> None:
    plain, interrupted = _opened(tmp_path / "plain"), _opened(tmp_path / "interrupted")
    _ask(plain, range(10))
    _ask(interrupted, range(5))
    _of(interrupted).draw("given up", np.ones(D, np.float32), np.eye(K, D, dtype=np.float32), M)
    interrupted.learn("acme", "never drawn", {1: 1.0})
    interrupted.learn("acme", "given up", {})
    _ask(interrupted, range(5, 10))
    assert _same(_of(plain), _of(interrupted))


def test_samples_of_an_update_that_was_saved_are_not_learned_from_twice(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path)
    _ask(rerankers, range(3))
    stale = next(tmp_path.rglob(PENDING)).read_bytes()
    _ask(rerankers, range(3, 4))
    rerankers.close()
    next(tmp_path.rglob(PENDING)).write_bytes(stale)  # as if the process had ended before it was replaced
    assert _of(_opened(tmp_path)).state.pending == ()
    assert _of(_opened(tmp_path)).state.learned == 4


def test_tenants_and_spaces_learn_apart(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path)
    _ask(rerankers, range(8), "acme")
    assert not np.any(_of(rerankers, "other").state.weights.query)
    assert not np.any(rerankers.of("acme", "minilm", D).state.weights.query)
    with pytest.raises(InvalidRequest, match="no tenant"):
        rerankers.of("../acme", "hash-8", D)


def test_one_process_learns_and_the_other_serves_by_what_was_saved(tmp_path: Path) -> None:
    first, second = _opened(tmp_path), _opened(tmp_path)
    _ask(first, range(6))
    assert _ask(second, range(100, 103)) == _ask(second, range(100, 103))  # without noise
    assert not _of(second).learns
    assert _of(second).state.step == 1
    _ask(first, range(6, 9))
    _ask(second, range(103, 104))
    assert (_of(first).state.learned, _of(second).state.step) == (9, 2)
    first.close()
    _ask(second, range(104, 108))
    assert _of(second).learns
    assert _of(second).state.learned == 13


def test_frozen_is_deterministic_and_learns_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path)
    _ask(rerankers, range(8))
    weights = _of(rerankers).state.weights
    rerankers.freeze("acme", frozen=True)
    once, twice = _ask(rerankers, range(20, 26)), _ask(rerankers, range(20, 26))
    assert once == twice
    assert _of(rerankers).state.weights is weights
    assert rerankers.states("acme")[0].frozen
    rerankers.close()
    again = _opened(tmp_path)
    assert _ask(again, range(20, 26)) == once  # a restart leaves it frozen
    again.close()
    assert _ask(_opened(tmp_path, learn=False), range(20, 26)) == once
    rerankers.freeze("acme", frozen=False)
    _ask(rerankers, range(8, 12))
    assert _of(rerankers).state.step == 3


def test_going_back_to_a_kept_state_and_learning_on_from_there(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path, keep=3, keep_every=2)
    _ask(rerankers, range(16))
    at_four = _of(rerankers).state.weights.query.copy()
    _ask(rerankers, range(16, 35))
    (state,) = rerankers.states("acme")
    assert (state.step, state.kept) == (8, (4, 6, 8))
    with pytest.raises(NotFound, match=r"kept: \[4, 6, 8\]"):
        rerankers.roll_back("acme", 5)
    rerankers.roll_back("acme", 4)
    assert np.array_equal(_of(rerankers).state.weights.query, at_four)
    assert (_of(rerankers).state.learned, _of(rerankers).state.pending) == (16, ())
    assert rerankers.states("acme")[0].kept == (4,)
    _ask(rerankers, range(40, 44))
    rerankers.close()
    closed = _opened(tmp_path, keep=3, keep_every=2)
    assert _of(closed).state.step == 5
    closed.close()
    _opened(tmp_path).roll_back("acme", 4)  # also of one that no process has open
    assert np.array_equal(_of(_opened(tmp_path)).state.weights.query, at_four)


def test_forgetting_a_tenant_removes_its_files_and_a_process_that_learned_begins_anew(tmp_path: Path) -> None:
    mine, theirs = _opened(tmp_path), _opened(tmp_path)
    _ask(theirs, range(9))
    _ask(theirs, range(9), "other")
    query, memories = np.ones(D, np.float32), np.eye(K, D, dtype=np.float32)
    _of(theirs).draw("in flight", query, memories, M)
    mine.forget("acme")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    theirs.learn("acme", "in flight", {0: 1.0})
    assert not (tmp_path / "acme").exists()
    _ask(theirs, range(20, 21))
    assert (_of(theirs).state.step, _of(theirs).state.learned) == (0, 1)
    assert not np.any(_of(theirs).state.weights.query)


def test_samples_that_wait_can_be_dropped(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path)
    _ask(rerankers, range(6))
    rerankers.drop_pending("acme")
    assert not list(tmp_path.rglob(PENDING))
    assert _of(rerankers).state.pending == ()
    rerankers.close()
    assert _of(_opened(tmp_path)).state.step == 1


def test_files_are_for_the_owner_alone_and_nothing_is_left_aside(tmp_path: Path) -> None:
    _ask(_opened(tmp_path / "r", keep_every=1), range(9))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {CURRENT, PENDING, "lease", "step-000000001.npz", "step-000000002.npz"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    rerankers = _opened(tmp_path)
    _ask(rerankers, range(4))
    rerankers.close()
    next(tmp_path.rglob(CURRENT)).write_bytes(b"PK half a file")
    with pytest.raises(ConfigurationError, match=r"state\.npz is damaged"):
        _of(_opened(tmp_path))
