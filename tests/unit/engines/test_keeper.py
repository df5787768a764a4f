"""Nothing of an engine is left: not after it ends, not after it is stopped, not after the server is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from server.engines.kept_process import KEEPER, KeptProcess

GRACE_S = 1.0
PATIENCE_S = 30.0

TREE = """
import pathlib, signal, subprocess, sys, time
sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.{}); print('up', flush=True); time.sleep(600)"
children = [
    subprocess.Popen([sys.executable, "-c", sleep.format("SIG_DFL")], stdout=subprocess.PIPE),
    subprocess.Popen([sys.executable, "-c", sleep.format("SIG_DFL")], stdout=subprocess.PIPE, start_new_session=True),
    subprocess.Popen([sys.executable, "-c", sleep.format(sys.argv[2])], stdout=subprocess.PIPE, start_new_session=True),
]
for child in children:
    child.stdout.readline()
pids = pathlib.Path(sys.argv[1])
pids.with_suffix(".part").write_text(" ".join(str(child.pid) for child in children))
pids.with_suffix(".part").rename(pids)
time.sleep(600 if len(sys.argv) < 4 else 0)
sys.exit(7)
"""
SERVER = """
import asyncio, os, pathlib, sys
from server.engines.kept_process import KeptProcess
async def main():
    await KeptProcess.start(sys.argv[2:], environ=os.environ, log=pathlib.Path(sys.argv[1]), cwd=pathlib.Path("."), grace_s=1.0)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def command(pids: Path, *, stubborn: bool = False, ends: bool = False) -> list[str]:
    return [sys.executable, "-c", TREE, str(pids), "SIG_IGN" if stubborn else "SIG_DFL", *(["ends"] if ends else [])]


async def written(pids: Path) -> list[psutil.Process]:
    async with asyncio.timeout(PATIENCE_S):
        while (found := running(pids)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


def running(pids: Path) -> list[psutil.Process] | None:
    if not pids.exists():
        return None
    return [psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]


async def gone(processes: list[psutil.Process], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def test_stopping_ends_the_whole_tree(tmp_path: Path) -> None:
    kept = await KeptProcess.start(command(tmp_path / "pids"), environ=os.environ, log=tmp_path / "log", cwd=tmp_path, grace_s=GRACE_S)
    processes = await written(tmp_path / "pids")
    assert len(processes) == 3
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    await kept.stop()
    assert await gone(processes, 0)


async def test_what_will_not_end_is_killed(tmp_path: Path) -> None:
    kept = await KeptProcess.start(
        command(tmp_path / "pids", stubborn=True), environ=os.environ, log=tmp_path / "log", cwd=tmp_path, grace_s=GRACE_S
    )
    processes = await written(tmp_path / "pids")
    began = time.monotonic()
    await kept.stop()
    assert await gone(processes, 0)
    assert time.monotonic() - began < GRACE_S + PATIENCE_S


async def test_when_the_command_ends_its_descendants_end_and_its_status_is_told(tmp_path: Path) -> None:
    kept = await KeptProcess.start(
        command(tmp_path / "pids", ends=True), environ=os.environ, log=tmp_path / "log", cwd=tmp_path, grace_s=GRACE_S
    )
    processes = await written(tmp_path / "pids")
    assert await kept.wait() == 7
    assert await gone(processes, 0)
    await kept.stop()


async def test_a_killed_command_is_told_by_its_signal(tmp_path: Path) -> None:
    kept = await KeptProcess.start(command(tmp_path / "pids"), environ=os.environ, log=tmp_path / "log", cwd=tmp_path, grace_s=GRACE_S)
    processes = await written(tmp_path / "pids")
    [leader] = psutil.Process(kept.pid).children()
    leader.kill()
    assert await kept.wait() == 128 + signal.SIGKILL
    assert await gone(processes, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the keeper")
async def test_killing_the_server_leaves_nothing(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", SERVER, str(tmp_path / "log"), *command(tmp_path / "pids")]
    server = await asyncio.create_subprocess_exec(*arguments, cwd=KEEPER.parents[2])
    processes = await written(tmp_path / "pids")
    keepers = psutil.Process(server.pid).children()
    server.kill()
    await server.wait()
    assert await gone([*processes, *keepers], GRACE_S + PATIENCE_S)


def test_the_keeper_ends_when_it_is_told_to() -> None:
    arguments = [sys.executable, "-I", str(KEEPER), "1", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        keeper.terminate()
        assert keeper.wait(GRACE_S + PATIENCE_S) == 128 + signal.SIGTERM
