"""`recollect demo --keep` leaves the server running until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from trainer.demo.serving import interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_waits_until_it_is_interrupted(number: signal.Signals) -> None:
    waiting = asyncio.create_task(interrupted())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(waiting, 5)
    for handled in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(handled)
