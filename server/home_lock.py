"""One server per home on this machine: a lock that ends with the process, and the file that tells others where it is."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recollect.errors import ConfigurationError
from recollect.log_files import replacing

ADDRESS = "server.json"


@contextmanager
def owned(home: Path) -> Generator[None]:
    """Own `home` while the block runs. Raises ConfigurationError that names the server that owns it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            where = _address(home)
            raise ConfigurationError(f"a server runs on home {home} already{where}; stop it, or set another home", param="home") from exc
        yield
    finally:
        os.close(descriptor)


@contextmanager
def announced(home: Path, *, url: str, token: str, engine_urls: Callable[[], list[str]]) -> Generator[Callable[[], None]]:
    """`server.json` in the home while the block runs: pid, url, engine_urls and the first of them, started_at. Gives what writes it."""
    path = home / ADDRESS
    started_at = datetime.now(UTC).isoformat()

    def write() -> None:
        engines = engine_urls()
        first = engines[0] if engines else None
        content = {"pid": os.getpid(), "url": url, "engine_url": first, "engine_urls": engines, "token": token, "started_at": started_at}
        with replacing(path) as file:  # with the owner's token in it, it is nobody else's for no moment
            file.write(json.dumps(content).encode() + b"\n")

    write()
    try:
        yield write
    finally:
        path.unlink(missing_ok=True)


def _address(home: Path) -> str:
    try:
        found = json.loads((home / ADDRESS).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    return f" (pid {found.get('pid')}, {found.get('url')})"
