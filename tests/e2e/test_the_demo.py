"""The demo learns from the log that it wrote, and from nothing else."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from recollect.log import read_log
from server.engines.child import VllmChild

pytestmark = pytest.mark.engine


async def test_with_its_log_deleted_before_training_the_demo_fails_at_that_step(engine: VllmChild, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    overrides = ["engine.kind=attach", f"engine.urls=[{engine.url}]", "agents.prompts=compact", "embedder.kind=none"]
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(home), "demo", "--lose-log"),
        *("--dialogues", "2", "--documents", "1", "--held-out", "2"),
        *(part for override in overrides for part in ("--serve", override)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(demo.communicate(), 300)
    text = output.decode()
    assert demo.returncode == 1, text
    assert "5. Train on the log" in text
    assert "nothing to do" in text
    assert "the demo failed: train on the log" in text
    assert "6. Swap" not in text
    assert read_log(home / "trajectories").trajectories == []
