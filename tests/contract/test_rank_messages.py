"""The first of several processes and its followers go their ways in order."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEADER = """
with rank_messages.telling():
    rank_messages.tell("update", samples=[1, 2])
    {ending}
"""
FOLLOWER = """
print(list(rank_messages.told()))
"""
LEFT = """
import atexit
import torch.distributed
from trainer import rank_messages
atexit.register(lambda: print("left" if not torch.distributed.is_initialized() else "still in"))
"""


def process(rank: int, port: int, script: str) -> subprocess.Popen[str]:
    """One of two processes, as torchrun starts them."""
    named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    return subprocess.Popen(
        [sys.executable, "-c", LEFT + script],
        env=os.environ | named | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("ending", "code"), [("pass", 0), ("raise SystemExit(3)", 3)])
def test_all_leave_before_they_end_and_keep_their_exit_codes(ending: str, code: int) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    both = [process(0, port, LEADER.format(ending=ending)), process(1, port, FOLLOWER)]
    (led, led_errors), (followed, follower_errors) = (each.communicate(timeout=120) for each in both)
    assert [each.returncode for each in both] == [code, 0], led_errors + follower_errors
    assert led.split() == ["left"]
    assert followed.splitlines() == ["[('update', {'samples': [1, 2]})]", "left"]
