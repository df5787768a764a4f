"""What stops a worker before its answer: its budget, and the same call again and again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

from recollect.errors import RecollectError
from recollect.tools import ToolCall

REPEATS = 3
Reason = Literal["steps", "tokens", "time", "repeated", "nothing"]


class Stopped(RecollectError):
    """A task ended without an answer. `reason` is also its code."""

    status = 409

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message, code=f"stopped_{reason}")
        self.reason = reason


class RetryGuard:
    """Counts calls of one task by tool and arguments, in whatever order these are written."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def check(self, call: ToolCall) -> None:
        """Raises Stopped when the same call comes for the third time: what failed or said nothing twice will again."""
        self._seen[key := f"{call.name} {_canonical(call.arguments)}"] += 1
        if self._seen[key] >= REPEATS:
            raise Stopped(f"the same call of {call.name} was made {REPEATS} times; give the task more to go by", reason="repeated")


def _canonical(arguments: str) -> str:
    try:
        parsed: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments.strip()
    return json.dumps(parsed, sort_keys=True, separators=(",", ":"))
