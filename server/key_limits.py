"""What each key has left: requests of the current minute, and tokens of the day (UTC). The day's tokens survive a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recollect.errors import TooManyRequests
from recollect.log_files import replacing
from server.principal import Principal

logger = logging.getLogger(__name__)
SAVE_EVERY_S = 5.0


class KeyLimits:
    """Counts in this process; a bucket of a minute's requests refills steadily."""

    def __init__(self, file: Path) -> None:
        """`file` has the tokens of today, by key."""
        self._file = file
        self._left: dict[str, tuple[float, float]] = {}
        self._day, self._tokens = _read(file)
        self._unsaved = False

    def take(self, principal: Principal) -> None:
        """A request arrives. Raises TooManyRequests, with the seconds until one would be taken."""
        key = principal.key_id
        if key is None:
            return
        if (limit := principal.tokens_per_day) and self._used(key) >= limit:
            raise TooManyRequests(f"this key has used its {limit} tokens of today (UTC)", retry_after_s=_until_midnight())
        if rate := principal.requests_per_minute:
            then, left = self._left.get(key, (time.monotonic(), float(rate)))
            left = min(float(rate), left + (time.monotonic() - then) * rate / 60)
            if left < 1:
                self._left[key] = (time.monotonic(), left)
                seconds = round((1 - left) * 60 / rate + 0.5)
                raise TooManyRequests(f"this key may send {rate} requests a minute", retry_after_s=max(1, seconds))
            self._left[key] = (time.monotonic(), left - 1)

    def spent(self, key_id: str | None, tokens: int) -> None:
        """An answer took so many tokens."""
        if key_id is not None and tokens:
            self._used(key_id)
            self._tokens[key_id] += tokens
            self._unsaved = True

    def used_today(self, key_id: str) -> int:
        """Tokens of the key's answers today."""
        return self._used(key_id)

    async def watch(self) -> None:
        """Write down what was counted, every few seconds, for ever."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            try:
                await self.save()
            except OSError as exc:
                logger.warning("the tokens of keys are not written down: %s", exc)

    async def save(self) -> None:
        """Write today's tokens down, if some were counted since the last time. Raises OSError."""
        if self._unsaved:
            self._unsaved = False
            await asyncio.to_thread(_write, self._file, {"day": self._day, "tokens": dict(self._tokens)})

    def _used(self, key: str) -> int:
        if self._day != (today := _today()):
            self._day, self._tokens = today, Counter[str]()
        return self._tokens[key]


def _write(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with replacing(file) as written:
        written.write(json.dumps(content).encode() + b"\n")


def _read(file: Path) -> tuple[str, Counter[str]]:
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        found = {}
    return str(found.get("day", _today())), Counter[str](found.get("tokens", {}))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _until_midnight() -> int:
    now = datetime.now(UTC)
    return int((datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now).total_seconds()) + 1
