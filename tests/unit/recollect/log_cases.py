"""Events for the tests of the log."""

from __future__ import annotations

from typing import Any

from recollect.events import LogEvent
from recollect.memory import content_hash
from recollect.messages import user
from recollect.policy import Policy
from recollect.trajectory import Feedback, MemoryOp, MemoryRef, Step, Trajectory, Usage


def step(index: int, text: str = "She lives in Porto [1].") -> Step:
    """A model call with exact tokens and a cited memory."""
    return Step(
        index=index,
        role="answerer",
        policy=Policy(base="seed", adapter="memory", version=3),
        messages=[user(f"secret question {index}")],
        text=text,
        prompt_ids=[1, 2, 3],
        completion_ids=[4, 5],
        logprobs=[-0.5, -0.25],
        finish_reason="stop",
        sampling={"temperature": 1.0, "stop": ["secret stop"]},
        usage=Usage(prompt_tokens=3, completion_tokens=2),
        duration_s=0.125,
        memory_ops=[MemoryOp(op="add", id="m2", text="secret fact")],
        retrieved=[MemoryRef(id="m1", score=0.75, content_hash=content_hash("secret memory"))],
        cited=["m1"],
    )


def trajectory(name: str, *, steps: int = 1, **fields: Any) -> Trajectory:
    """One answered request."""
    values: dict[str, Any] = {
        "tenant": "local",
        "namespace": "user/42",
        "session": "s1",
        "agent": "memory",
        "agent_config_hash": "c" * 64,
        "request": [user("secret: where does she live?")],
        "answer": "secret: Porto",
        "memory_seq_before": {"user/42": 7},
        "steps": [step(index) for index in range(steps)],
    }
    return Trajectory(id=name, **(values | fields))


def event_of(logged: Trajectory) -> LogEvent:
    """The event that a finished request appends."""
    return LogEvent(event_id=f"e-{logged.id}", trajectory_id=logged.id, kind="trajectory", body=logged.model_dump(mode="json"))


def feedback_of(name: str, **fields: Any) -> LogEvent:
    """A feedback event on a trajectory."""
    body = Feedback(id=name, **fields).model_dump(mode="json")
    return LogEvent(event_id=f"f-{name}-{len(str(fields))}", trajectory_id=name, kind="feedback", body=body)


def steps_of(name: str, steps: list[Step], seq_after: dict[str, int] | None = None, event_id: str = "s") -> LogEvent:
    """The late steps of a trajectory."""
    body = {"steps": [step.model_dump(mode="json") for step in steps], "memory_seq_after": seq_after}
    return LogEvent(event_id=f"{event_id}-{name}", trajectory_id=name, kind="steps", body=body)
