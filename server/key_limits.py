"""What each key has left: requests of the current minute, and tokens of the day (UTC), of which the usage book knows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from recollect.errors import TooManyRequests
from server.principal import Principal
from server.service.usage import UsageBook

BUSY_RETRY_S = 5


class KeyLimits:
    """Counts in this process; a bucket of a minute's requests refills steadily."""

    def __init__(self, usage: UsageBook) -> None:
        self._usage = usage
        self._left: dict[str, tuple[float, float]] = {}
        self._tokens_per_day: dict[str, int] = {}
        """By key, as its last request told it: workers, which ask later, know no more of a key than its id."""
        self._reserved: Counter[str] = Counter()

    def take(self, principal: Principal) -> None:
        """A request arrives, and is counted if it is let in. Raises TooManyRequests, with the seconds until one would be taken."""
        if principal.key_id is not None:
            self._check(principal, principal.key_id)
        self._usage.add(principal.tenant, principal.key_id, requests=1)

    def reserve(self, tenant: str, key_id: str | None, tokens: int) -> Reserved:
        """An answer begins that will take about so many tokens of its key's day; its end settles what it took.

        The last one may pass the limit, as one that is asked alone may. Raises TooManyRequests where nothing is left, or would be
        once those that are being given have ended.
        """
        if key_id is None:
            return Reserved(lambda used: None)
        if limit := self._tokens_per_day.get(key_id, 0):
            self._check_day(key_id, limit)
            if self.used_today(key_id) + self._reserved[key_id] >= limit:
                raise TooManyRequests(
                    f"this key's {limit} tokens of today (UTC) are used, or reserved for answers that are being given; "
                    "wait for one to end, or set a smaller max_tokens on them",
                    retry_after_s=BUSY_RETRY_S,
                )
        self._reserved[key_id] += tokens
        return Reserved(lambda used: self._settle(tenant, key_id, tokens, used))

    def reserved(self, key_id: str) -> int:
        """Tokens that are reserved for answers that are being given."""
        return self._reserved[key_id]

    def _settle(self, tenant: str, key_id: str, reserved: int, used: int) -> None:
        self._reserved[key_id] -= reserved
        if not self._reserved[key_id]:
            del self._reserved[key_id]
        if used:
            self._usage.count(tenant, key_id, used)

    def used_today(self, key_id: str) -> int:
        """Tokens of the key's answers today."""
        return self._usage.counted_today(key_id)

    def _check_day(self, key_id: str, limit: int) -> None:
        if self.used_today(key_id) >= limit:
            raise TooManyRequests(f"this key has used its {limit} tokens of today (UTC)", retry_after_s=_until_midnight())

    def _check(self, principal: Principal, key: str) -> None:
        if limit := principal.tokens_per_day:
            self._tokens_per_day[key] = limit
        if rate := principal.requests_per_minute:
            then, left = self._left.get(key, (time.monotonic(), float(rate)))
            left = min(float(rate), left + (time.monotonic() - then) * rate / 60)
            if left < 1:
                self._left[key] = (time.monotonic(), left)
                seconds = round((1 - left) * 60 / rate + 0.5)
                raise TooManyRequests(f"this key may send {rate} requests a minute", retry_after_s=max(1, seconds))
            self._left[key] = (time.monotonic(), left - 1)


class Reserved:
    """Tokens that are set aside."""

    __slots__ = ("_settle",)

    def __init__(self, settle: Callable[[int], None]) -> None:
        self._settle: Callable[[int], None] | None = settle

    def settle(self, used: int) -> None:
        """They are free again, and so many were used. A second call does nothing."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(used)


def _until_midnight() -> int:
    now = datetime.now(UTC)
    return int((datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now).total_seconds()) + 1
