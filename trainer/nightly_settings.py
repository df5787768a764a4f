"""When a nightly run may run, and what it needs to begin."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Self

from pydantic import Field, model_validator

from recollect.model import Frozen

_WINDOW = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


class NightlySettings(Frozen):
    """Of `recollect nightly`."""

    window: str = ""
    """When it may run, in local time, such as 23:00-05:30; empty: at any time."""
    max_minutes: float = Field(default=0.0, ge=0)
    """The run is measured and published within so many minutes; 0: no limit but the window's end."""
    nice: int = Field(default=10, ge=0, le=19)
    """By how much it gives way to other processes on the CPU."""
    min_tasks: int = Field(default=8, ge=1)
    """New tasks of the log without which it is not worth to begin."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self.times()
        return self

    def times(self) -> tuple[time, time] | None:
        """The window's beginning and end; None without one. Raises ValueError."""
        if not self.window:
            return None
        found = _WINDOW.fullmatch(self.window)
        try:
            if found is None:
                raise ValueError
            numbers = [int(group) for group in found.groups()]
            begin, end = time(numbers[0], numbers[1]), time(numbers[2], numbers[3])
        except ValueError:
            raise ValueError(f"window is {self.window!r}; write local times such as 23:00-05:30") from None
        if begin == end:
            raise ValueError(f"window {self.window!r} has no length; leave it empty for any time")
        return begin, end

    def seconds_left(self, now: datetime) -> float | None:
        """How long a run that begins now may take; 0 outside the window, None without a limit."""
        limit = self.max_minutes * 60 or None
        if (times := self.times()) is None:
            return limit
        begin, end = (_seconds(moment) for moment in times)
        since = (_seconds(now.time()) - begin) % 86400
        length = (end - begin) % 86400
        left = max(0.0, length - since)
        return left if limit is None else min(left, limit)


def _seconds(moment: time) -> float:
    return moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
