"""The server that runs on a home: where it is (`server.json`), whether it answers, and starting one that outlives its starter."""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from recollect.errors import RecollectError
from recollect.model import Record
from recollect.settings import Settings
from recollect.settings_read import PREFIX

SERVE = (sys.executable, "-m", "recollect", "serve")
HEALTH_TIMEOUT_S = 2.0
GRACE_S = 3.0
START_TIMEOUT_S = 60.0
POLL_S = 0.05


class RunningServer(Record):
    """`server.json`: the process, its base URL, the URL of the engine behind it, and the owner's token."""

    pid: int
    url: str
    engine_url: str | None = None
    token: str = Field(default="", repr=False, exclude=True)
    """What the home's owner may ask it with where there are keys. It is shown nowhere."""


def recorded_server(home: Path) -> RunningServer | None:
    """The server that `server.json` names, if its process lives. It may not answer yet, or no more."""
    try:
        server = RunningServer.model_validate_json((home / "server.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return server if _lives(server.pid) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It belongs to another user.
        return True
    return True


def answers(url: str) -> bool:
    """True if `/health` at the base URL answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def running_server(home: Path) -> RunningServer | None:
    """The server of this home that answers now; None if there is none."""
    return await asyncio.to_thread(_running_server, home)


def _running_server(home: Path) -> RunningServer | None:
    server = recorded_server(home)
    return server if server and answers(server.url) else None


async def ensure_server(settings: Settings, *, serve: Sequence[str] = SERVE, timeout_s: float = START_TIMEOUT_S) -> RunningServer:
    """The server of this home; starts one if none answers, and waits until it does.

    Two callers at once start one server. Its output goes to `server.log`. Raises RecollectError with the end of that file
    if it does not come up.
    """
    home = settings.home.absolute()
    if server := await running_server(home):
        return server
    async with _starting(home):
        if server := await running_server(home):
            return server
        process = await asyncio.to_thread(_spawn, settings, home, serve)
        deadline, ended = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            if server := await running_server(home):
                return server
            if ended is None and process.poll() is not None:
                # Somebody else's server may own the home and be about to answer.
                ended = time.monotonic()
                deadline = min(deadline, ended + GRACE_S)
            await asyncio.sleep(POLL_S)
    raise RecollectError(f"recollect serve did not come up; {_last_words(home)}", code="server_start_failed")


@asynccontextmanager
async def _starting(home: Path) -> AsyncGenerator[None]:
    """The right to start the server of this home."""
    fd = await asyncio.to_thread(_open_lock, home)
    try:
        await asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open_lock(home: Path) -> int:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(home / ".start.lock", os.O_RDWR | os.O_CREAT, 0o600)


def _spawn(settings: Settings, home: Path, serve: Sequence[str]) -> subprocess.Popen[bytes]:
    log = os.open(home / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            serve,
            env={**os.environ, **environment(settings, home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A session of its own: a signal to the starter's terminal must not end the server that others use too.
            start_new_session=True,
        )
    finally:
        os.close(log)


def environment(settings: Settings, home: Path) -> Mapping[str, str]:
    """The settings as environment variables, so that keys do not stand on a command line."""
    chosen = settings.model_dump(mode="json", exclude_unset=True, exclude={"home"})
    values = {
        f"{PREFIX}{section}__{key}".upper(): json.dumps(value)
        for section, keys in chosen.items()
        for key, value in cast("dict[str, Any]", keys).items()
    }
    return {**values, f"{PREFIX}HOME": str(home)}


def _last_words(home: Path) -> str:
    log = home / "server.log"
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return f"{log} ends with: {' | '.join(lines[-3:])}" if lines else f"{log} is empty"
