"""What each key has left: requests of the current minute, and tokens of the day (UTC), of which the usage book knows."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from recollect.errors import TooManyRequests
from server.principal import Principal
from server.service.usage import UsageBook


class KeyLimits:
    """Counts in this process; a bucket of a minute's requests refills steadily."""

    def __init__(self, usage: UsageBook) -> None:
        self._usage = usage
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, principal: Principal) -> None:
        """A request arrives, and is counted if it is let in. Raises TooManyRequests, with the seconds until one would be taken."""
        if principal.key_id is not None:
            self._check(principal, principal.key_id)
        self._usage.add(principal.tenant, principal.key_id, requests=1)

    def spent(self, tenant: str, key_id: str | None, tokens: int) -> None:
        """An answer took so many tokens."""
        if key_id is not None and tokens:
            self._usage.count(tenant, key_id, tokens)

    def used_today(self, key_id: str) -> int:
        """Tokens of the key's answers today."""
        return self._usage.counted_today(key_id)

    def _check(self, principal: Principal, key: str) -> None:
        if (limit := principal.tokens_per_day) and self.used_today(key) >= limit:
            raise TooManyRequests(f"this key has used its {limit} tokens of today (UTC)", retry_after_s=_until_midnight())
        if rate := principal.requests_per_minute:
            then, left = self._left.get(key, (time.monotonic(), float(rate)))
            left = min(float(rate), left + (time.monotonic() - then) * rate / 60)
            if left < 1:
                self._left[key] = (time.monotonic(), left)
                seconds = round((1 - left) * 60 / rate + 0.5)
                raise TooManyRequests(f"this key may send {rate} requests a minute", retry_after_s=max(1, seconds))
            self._left[key] = (time.monotonic(), left - 1)


def _until_midnight() -> int:
    now = datetime.now(UTC)
    return int((datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now).total_seconds()) + 1
