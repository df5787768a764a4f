"""What a server has acknowledged, and what of it is missing afterwards.

Acknowledged are: a memory whose request was answered, a feedback whose request was answered, a trajectory (with the user's
turn as a memory) whose answer's body or `[DONE]` has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import httpx

from recollect.log import read_log


@dataclass(slots=True)
class Acknowledged:
    """What the server has promised to keep."""

    memories: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """By id: namespace and text."""
    answers: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """By trajectory id: user and what they said, which the stub repeats."""
    feedback: dict[str, str] = field(default_factory=dict[str, str])
    """By trajectory id: the comment."""

    def __len__(self) -> int:
        return len(self.memories) + len(self.answers) + len(self.feedback)


async def memories_of(url: str, user: str) -> dict[str, str]:
    """Every current memory of a user, by id."""
    found: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        while True:
            page = (await http.get("/v1/memories", params={"namespace": user, "limit": 1000, "offset": len(found)})).json()
            found |= {memory["id"]: memory["text"] for memory in page["data"]}
            if not page["has_more"]:
                return found


async def lost(url: str, homes: list[Path], acknowledged: Acknowledged, *, repeats: bool = True) -> list[str]:
    """What was acknowledged and is not there, or is not what it was; of the logs of all homes that a store was served from.

    `repeats`: the model's answers end with what it was told last.
    """
    users = {user for user, _ in (*acknowledged.memories.values(), *acknowledged.answers.values())}
    memories = {user: await memories_of(url, user) for user in users}
    missing = [f"memory {key}" for key, (user, text) in acknowledged.memories.items() if memories[user].get(key) != text]
    logged = {one.trajectory.id: one for home in homes for one in read_log(home / "trajectories").trajectories}
    for key, (user, text) in acknowledged.answers.items():
        found = logged.get(key)
        if found is None or found.trajectory.error is not None or not (found.trajectory.answer.endswith(text) or not repeats):
            missing.append(f"answer {key}")
        if text not in memories[user].values():
            missing.append(f"turn {key}")
    for key, comment in acknowledged.feedback.items():
        if key not in logged or comment not in {given.comment for given in logged[key].feedback}:
            missing.append(f"feedback {key}")
    return missing
