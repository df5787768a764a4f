"""A `recollect serve` of the demo's own: started as a user starts it, watched until it is ready, ended at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from recollect.errors import RecollectError


class ServerFailed(RecollectError):
    """The server ended before it was ready; the message holds the end of its log."""


class Serving:
    """One server process on `home`. `url` is known when `start` has returned."""

    def __init__(self, home: Path, overrides: list[str]) -> None:
        self.home = home
        self.overrides = overrides
        self.url = ""
        self.engine_url = ""
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process. Raises ServerFailed before it was started."""
        if self._process is None:
            raise ServerFailed("the server was not started")
        return self._process.pid

    def start(self, report: Callable[[str], None], *, timeout_s: float = 300.0) -> None:
        """Start it and wait until it is ready. Raises ServerFailed."""
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "recollect", "--home", str(self.home), "serve", "server.port=0", *self.overrides]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(f"the server ended with status {self._process.returncode}:\n{self.log_tail()}")
            found = self._found()
            if found:
                self.url, self.engine_url = found["url"], found.get("engine_url") or ""
                ready, detail = self._ready()
                report(detail)
                if ready:
                    self.engine_url = (self._found() or found).get("engine_url") or ""
                    return
            time.sleep(0.25)
        raise ServerFailed(f"the server was not ready within {timeout_s:.0f} s:\n{self.log_tail()}")

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process is None or self._process.poll() is not None:
            return
        os.kill(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def _found(self) -> dict[str, Any] | None:
        """What the server of this home says of itself; a file left by another process does not count."""
        try:
            found = json.loads((self.home / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found if self._process is not None and found.get("pid") == self._process.pid else None

    def _ready(self) -> tuple[bool, str]:
        try:
            answer = httpx.get(f"{self.url}/ready", timeout=10)
        except httpx.HTTPError:
            return False, "the server is starting"
        body = answer.json()
        return answer.status_code == 200, str(body.get("detail") or body.get("error", {}).get("message") or "starting")


async def interrupted() -> None:
    """Wait for Ctrl-C or a request to end."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
