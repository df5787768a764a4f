"""When a night may run."""

from __future__ import annotations

from datetime import datetime

import pytest
from pydantic import ValidationError

from trainer.nightly_settings import NightlySettings


@pytest.mark.parametrize(
    ("window", "max_minutes", "now", "left"),
    [
        ("", 0, "12:00", None),
        ("", 30, "12:00", 1800),
        ("23:00-05:30", 0, "22:59", 0),
        ("23:00-05:30", 0, "23:00", 6.5 * 3600),
        ("23:00-05:30", 0, "04:30", 3600),
        ("23:00-05:30", 0, "05:30", 0),
        ("23:00-05:30", 90, "04:30", 3600),
        ("23:00-05:30", 90, "01:00", 5400),
        ("1:00-5:00", 0, "4:59", 60),
    ],
)
def test_a_run_ends_with_its_window_or_its_limit_and_does_not_begin_outside(
    window: str, max_minutes: float, now: str, left: float | None
) -> None:
    moment = datetime.strptime(f"2026-01-01 {now}", "%Y-%m-%d %H:%M")
    assert NightlySettings(window=window, max_minutes=max_minutes).seconds_left(moment) == left


@pytest.mark.parametrize("window", ["night", "25:00-26:00", "23:00", "05:00-05:00", "1:60-2:00"])
def test_a_window_that_is_none_is_refused_by_what_to_write(window: str) -> None:
    with pytest.raises(ValidationError, match=r"23:00-05:30|has no length"):
        NightlySettings(window=window)
