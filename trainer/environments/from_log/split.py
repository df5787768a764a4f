"""Which conversations are measured and never trained on: by a hash, so that one stays on its side for ever.

A conversation is a stretch of `STRETCH` commits of one namespace's memory, whose `seq` no clock and no later event changes; so a
home of one user has both sides too. No turn of the other side is replayed; the memory that a task begins with may hold what was said
there, as it did when the question was asked. A document that readers are asked about is one conversation, whatever is asked.
"""

from __future__ import annotations

from hashlib import sha256

from recollect.trajectory import Trajectory

STRETCH = 64


def held_out(conversation: str, share: float) -> bool:
    """Whether a conversation is among the share that is held out. With a larger share those stay that were held out with a smaller."""
    return int.from_bytes(sha256(conversation.encode()).digest()[:8], "big") < share * 2**64


def dialogue_of(trajectory: Trajectory, seq: int) -> str:
    """The conversation of a turn that found its namespace's memory at `seq`."""
    return f"dialogue\n{trajectory.tenant}\n{trajectory.namespace}\n{seq // STRETCH}"


def document_of(trajectory: Trajectory) -> str:
    """The conversation of a reader's request: its first message."""
    return f"document\n{trajectory.tenant}\n{trajectory.request[0].content}"
