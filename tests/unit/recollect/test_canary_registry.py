"""Canaries in the registry: one rename publishes one, a process may die between any two writes, older programs end what they know not."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recollect.canary import CANARY, Canary, Ended, canary_in
from recollect.canary_judging import put_away
from recollect.cli_adapters_show import collectable
from recollect.errors import Conflict
from recollect.learned import LEARNED
from recollect.manifest import Manifest
from recollect.quarantine import quarantined
from recollect.registry import WEIGHTS, Registry
from recollect.retired import Retired
from tests.unit.recollect.test_adapters_show import made, published

WORSE = Ended(verdict="rolled_back", reason="worse")
GOOD = Ended(verdict="promoted", reason="good")


def canary(over: int | None = 1) -> Canary:
    return Canary(over=over, share=0.1, min_rewards=50, max_hours=48, margin=0.05)


def begun(home: Path) -> Registry:
    """v1 current, and v2 its canary."""
    registry = published(home, 1)
    registry.publish(home / "c", _next(registry, home), canary=canary())
    return registry


def _next(registry: Registry, home: Path) -> Manifest:
    return made(home / "c", registry.next_version("memory"), parent=1)


def test_a_canary_is_published_beside_the_current_version_and_no_second_one(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    found = registry.canary("memory")
    assert found is not None
    assert (registry.current("memory"), found.version, found.canary.share) == (1, 2, 0.1)
    assert sorted(path.name for path in registry.path("memory", 2).iterdir())[2] == CANARY
    for other in (None, canary()):
        with pytest.raises(Conflict, match="memory@v2 is a canary: end it first"):
            registry.publish(tmp_path / "c", _next(registry, tmp_path), canary=other)
    registry.publish(tmp_path / "c", _next(registry, tmp_path), make_current=False)
    assert registry.canary("memory") == found


def test_a_canary_is_of_the_version_that_is_current(tmp_path: Path) -> None:
    registry = published(tmp_path, 2)
    with pytest.raises(Conflict, match="beside v1 of 'memory', and v2 is current now"):
        registry.publish(tmp_path / "c", _next(registry, tmp_path), canary=canary(1))


def test_an_end_is_written_once_and_the_version_taken_back_lies_in_quarantine(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    assert registry.end_canary("memory", 2, WORSE)
    assert not registry.end_canary("memory", 2, GOOD)
    for _ in range(2):
        put_away(registry, "memory")
    assert [(one.run_id, one.reasons) for one in quarantined(registry, "memory")] == [("r2", ["as canary memory@v2: worse"])]
    retired = registry.retired("memory", 2)
    assert retired is not None
    assert (retired.certificate, retired.reason) == ("canary", "taken back as a canary: worse")
    registry.drop_weights("memory", 2)
    put_away(registry, "memory")
    assert registry.next_version("memory") == 3


def test_a_promoted_canary_is_current_and_stays_a_version(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    assert registry.end_canary("memory", 2, GOOD)
    put_away(registry, "memory")
    assert (registry.current("memory"), registry.canary("memory"), registry.retired("memory", 2)) == (2, None, None)
    assert registry.rollback("memory") == 1
    assert registry.canary("memory") is None


def test_one_that_is_made_current_after_all_is_not_put_away(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    assert registry.end_canary("memory", 2, WORSE)
    registry.set_current("memory", 2)
    put_away(registry, "memory")
    assert (registry.current("memory"), registry.retired("memory", 2), quarantined(registry, "memory")) == (2, None, [])


class Killed(BaseException):
    """The process is dead."""


def _dies(monkeypatch: pytest.MonkeyPatch, step: int, work: Callable[[], Any]) -> bool:
    """Let `work` die before its write number `step`: each is a rename. False if it made fewer."""
    done = 0

    def rename(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                raise Killed
            return real(*args)

        return counted

    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(Path, name, rename(getattr(Path, name)))
        try:
            work()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("step", range(8))
def test_a_process_that_dies_while_it_publishes_leaves_a_canary_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    registry = published(tmp_path, 1)
    manifest = _next(registry, tmp_path)
    died = _dies(monkeypatch, step, lambda: registry.publish(tmp_path / "c", manifest, canary=canary()))
    found = registry.canary("memory")
    assert registry.current("memory") == 1
    assert (found is not None) == (registry.versions("memory") == [1, 2])
    assert died or found is not None
    assert died == (step < 2)


@pytest.mark.parametrize("ended", [WORSE, GOOD], ids=lambda ended: ended.verdict)
@pytest.mark.parametrize("step", range(8))
def test_a_process_that_dies_while_it_ends_one_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, ended: Ended
) -> None:
    registry = begun(tmp_path)

    def end() -> None:
        registry.end_canary("memory", 2, ended)
        put_away(registry, "memory")

    _dies(monkeypatch, step, end)
    still = registry.canary("memory")
    assert (still is None) == (step > 0)  # the first write decides
    end()
    assert registry.canary("memory") is None
    end()
    expected = (2, 0, False) if ended is GOOD else (1, 1, True)
    assert (registry.current("memory"), len(quarantined(registry, "memory")), registry.retired("memory", 2) is not None) == expected
    found = canary_in(registry.path("memory", 2))
    assert found is not None
    assert found.ended is not None
    assert found.ended.verdict == ended.verdict


def test_a_promotion_that_died_half_way_and_was_rolled_back_does_not_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = begun(tmp_path)
    assert _dies(monkeypatch, 1, lambda: registry.end_canary("memory", 2, GOOD))
    assert registry.current("memory") == 2
    assert registry.rollback("memory") == 1
    assert registry.canary("memory") is None


@pytest.mark.parametrize("pointer", ["v3", "base"])
def test_a_program_that_knows_of_no_canaries_ends_one_by_its_pointer(tmp_path: Path, pointer: str) -> None:
    registry = begun(tmp_path)
    registry.publish(tmp_path / "c", _next(registry, tmp_path), make_current=False)
    (registry.root / "local" / "memory" / "current").write_text(f"{pointer}\n")
    assert registry.canary("memory") is None
    put_away(registry, "memory")
    registry.set_current("memory", 1)
    assert registry.canary("memory") is None
    assert [one.reasons for one in quarantined(registry, "memory")] == [["as canary memory@v2: it was ended by hand"]]


def test_a_canary_that_learned_from_forgotten_data_ends_and_is_in_no_quarantine(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    registry.retire("memory", {2: Retired(certificate="c1", reason=LEARNED)})
    assert registry.canary("memory") is None
    put_away(registry, "memory")
    assert quarantined(registry, "memory") == []
    found = canary_in(registry.path("memory", 2))
    assert found is not None
    assert found.ended is not None
    assert found.ended.reason == f"it is retired: {LEARNED}"
    why = registry.retired("memory", 2)
    assert why is not None
    assert why.certificate == "c1"


def test_what_cannot_be_read_is_in_force_nowhere(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    (registry.path("memory", 2) / CANARY).write_text("{")
    assert registry.canary("memory") is None
    put_away(registry, "memory")
    assert registry.retired("memory", 2) is None


def test_gc_keeps_a_canary(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    for _ in range(3):
        registry.publish(tmp_path / "c", _next(registry, tmp_path), make_current=False)
    assert collectable(registry, "memory", 1) == [3, 4]


def test_its_file_is_the_owners_alone_and_its_time_is_told(tmp_path: Path) -> None:
    registry = begun(tmp_path)
    file = registry.path("memory", 2) / CANARY
    assert os.stat(file).st_mode & 0o777 == 0o600
    found = registry.canary("memory")
    assert found is not None
    assert found.canary.until - found.canary.since == timedelta(hours=48)
    assert (registry.path("memory", 2) / WEIGHTS).is_file()
