"""What it costs to log: one append of a trajectory of about 20 kB."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.figure import Figure, p50_p95, timed
from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.messages import user
from recollect.settings import LogSettings
from recollect.trajectory import Step, Trajectory


async def run() -> list[Figure]:
    """Time 2,000 appends."""
    step = Step(
        index=0,
        role="answerer",
        messages=[user("What is my locker code? " * 20)],
        prompt_ids=list(range(1000, 2200)),
        completion_ids=list(range(300)),
        logprobs=[-0.123456] * 300,
    )
    trajectory = Trajectory(
        id="t", tenant="local", namespace="user/default", session="s", agent="memory", agent_config_hash="0", request=[], steps=[step]
    )
    body = trajectory.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        writer = LogWriter(Path(folder), LogSettings())

        async def append(number: int) -> None:
            await writer.log(LogEvent(event_id=f"e{number}", trajectory_id=f"t{number}", kind="trajectory", body=body))

        taken = await timed(append, 2000)
        size = len(trajectory.model_dump_json())
        writer.close()
    return [Figure(f"append a trajectory of {size / 1000:.0f} kB", p50_p95(taken), "p50 ≤ 0.3 ms")]
