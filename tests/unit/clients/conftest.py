"""A real `recollect serve` without an engine, for the tests of the client and of the commands that ask it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clients.running import recorded_server

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="package")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the server; it ends after the last test."""
    home = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "recollect", "--home", str(home), "serve"]
    overrides = ["engine.kind=none", "embedder.kind=none", "server.port=0"]
    with (
        (home / "server.log").open("w") as log,
        subprocess.Popen([*command, *overrides], cwd=ROOT, env={"PATH": os.environ["PATH"]}, stdout=log, stderr=log) as process,
    ):
        wait_until_it_answers(home, process)
        yield home
        process.terminate()


def wait_until_it_answers(home: Path, process: subprocess.Popen[bytes]) -> None:
    """Poll its health for a minute at most."""
    for _ in range(600):
        server = recorded_server(home)
        try:
            if server and httpx.get(f"{server.url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, (home / "server.log").read_text()
        time.sleep(0.1)
    raise AssertionError((home / "server.log").read_text())
