"""Who used how much: requests, model calls and tokens, by tenant, key and day (UTC), in a small file a day under the home.

Counted in this process and written every few seconds: a process that is killed forgets the last of them, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from recollect.log_files import replacing
from recollect.model import Frozen

logger = logging.getLogger(__name__)
DAY_S = 86_400
SAVE_EVERY_S = 5.0
KEEP_DAYS = 400


class Used(Frozen):
    """What one key of a tenant used on one day. `key_id` None: the home's owner, or whoever asks where there are no keys."""

    day: str
    tenant: str
    key_id: str | None = None
    requests: int = 0
    """Those that were let in; of MCP, messages."""
    calls: int = 0
    """Of models, also those after an answer, for memory."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted_tokens: int = 0
    """Of answers and embeddings, as they count towards the key's tokens a day: estimated where no engine told."""


Whose = tuple[str, str | None]
_FILE = TypeAdapter(list[Used])


class UsageBook:
    """One server's. What is not of today is read from its file when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[str, dict[Whose, Used]] = {}
        self._changed: set[str] = set()
        self._writing = asyncio.Lock()

    def add(self, tenant: str, key_id: str | None, *, requests: int = 0, calls: int = 0, prompt: int = 0, completion: int = 0) -> None:
        """Count a request, or model calls and their tokens."""
        found = self._of(tenant, key_id)
        self._put(
            found.model_copy(
                update={
                    "requests": found.requests + requests,
                    "calls": found.calls + calls,
                    "prompt_tokens": found.prompt_tokens + prompt,
                    "completion_tokens": found.completion_tokens + completion,
                }
            )
        )

    def count(self, tenant: str, key_id: str, tokens: int) -> None:
        """Count tokens towards a key's limit of the day."""
        found = self._of(tenant, key_id)
        self._put(found.model_copy(update={"counted_tokens": found.counted_tokens + tokens}))

    def counted_today(self, key_id: str) -> int:
        """What counts towards the key's limit of today."""
        return sum(used.counted_tokens for used in self._today().values() if used.key_id == key_id)

    async def since(self, days: int) -> Sequence[Used]:
        """Of the last so many days, oldest first, then by tenant and key. Raises OSError."""
        first = (datetime.now(UTC).date() - timedelta(days=days - 1)).isoformat()
        earlier = await asyncio.to_thread(self._read_since, first, frozenset(self._days))
        held = [used for day, rows in self._days.items() if day >= first for used in rows.values()]
        return sorted([*earlier, *held], key=lambda used: (used.day, used.tenant, used.key_id or ""))

    async def watch(self) -> None:
        """Write down what was counted, every few seconds, for ever."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            try:
                await self.save()
            except OSError as exc:
                logger.warning("who used how much is not written down: %s", exc)

    async def save(self) -> None:
        """Write down what was counted since the last time. Raises OSError; then it is tried again with the next call."""
        # A write that has begun goes on if its caller is cancelled, and the next one waits for it.
        await asyncio.shield(self._save())

    async def _save(self) -> None:
        async with self._writing:
            today = _today()
            for day in sorted(self._changed):
                self._changed.discard(day)
                try:
                    await asyncio.to_thread(self._write, day, list(self._days[day].values()))
                except BaseException:
                    self._changed.add(day)
                    raise
            for day in [day for day in self._days if day < today and day not in self._changed]:
                del self._days[day]

    def _of(self, tenant: str, key_id: str | None) -> Used:
        return self._today().get((tenant, key_id)) or Used(day=_today(), tenant=tenant, key_id=key_id)

    def _put(self, used: Used) -> None:
        self._today()[used.tenant, used.key_id] = used
        self._changed.add(used.day)

    def _today(self) -> dict[Whose, Used]:
        today = _today()
        if (rows := self._days.get(today)) is None:
            rows = self._days[today] = {(used.tenant, used.key_id): used for used in _read(self._folder / f"{today}.json")}
        return rows

    def _read_since(self, first: str, held: frozenset[str]) -> list[Used]:
        files = [file for file in self._folder.glob("*.json") if file.stem >= first and file.stem not in held]
        return [used for file in files for used in _read(file)]

    def _write(self, day: str, rows: list[Used]) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = self._folder / f"{day}.json"
        if not file.exists():
            last = (datetime.now(UTC).date() - timedelta(days=KEEP_DAYS)).isoformat()
            for old in self._folder.glob("*.json"):
                if old.stem < last:
                    old.unlink()
        with replacing(file) as written:
            written.write(_FILE.dump_json(rows) + b"\n")


def _read(file: Path) -> list[Used]:
    """What a file has. A damaged one counts as none: it is a count, no record, and the next write replaces it. Raises OSError."""
    try:
        return _FILE.validate_json(file.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError:
        logger.warning("%s is damaged; what was used on that day is counted anew", file)
        return []


def _today() -> str:
    return _day(int(time.time() // DAY_S))


@lru_cache(maxsize=2)
def _day(number: int) -> str:
    """Asked several times a request, and the same all day."""
    return datetime.fromtimestamp(number * DAY_S, UTC).date().isoformat()
