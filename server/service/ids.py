"""Ids that sort by time: 12 hex digits of milliseconds since 1970, then 20 random ones."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime

COMPLETION_PREFIX, MESSAGE_PREFIX, RESPONSE_PREFIX = "chatcmpl-", "msg_", "resp_"
"""What stands before a trajectory's id in the id of an answer, by protocol."""
YEAR_10000_MS = 253_402_300_800_000
_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """A new id."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def is_id(text: str) -> bool:
    """True if the text has the form of such an id."""
    return _ID.fullmatch(text) is not None and int(text[:12], 16) < YEAR_10000_MS


def time_of(id_: str) -> datetime:
    """When an id was made."""
    return datetime.fromtimestamp(int(id_[:12], 16) / 1000, UTC)


def trajectory_of(answer_id: str) -> str:
    """The trajectory's id in the id of an answer, or in itself."""
    for prefix in (COMPLETION_PREFIX, MESSAGE_PREFIX, RESPONSE_PREFIX):
        answer_id = answer_id.removeprefix(prefix)
    return answer_id
