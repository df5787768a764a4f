"""A dictionary as the model of a namespace: what a batch of writes does to it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from recollect.memory import MemoryWrite

State = dict[str, str]
IDS = ("a", "b", "c", "d")
WRITES = st.builds(
    MemoryWrite,
    op=st.sampled_from(["add", "update", "delete"]),
    id=st.sampled_from(IDS),
    text=st.sampled_from(["red tea", "blue car", "a red house"]),
)


def after(state: State, batch: Sequence[MemoryWrite]) -> State | None:
    """The state after a batch; None if it is refused."""
    state = dict(state)
    for write in batch:
        if write.op == "add" and state.get(write.id, write.text) != write.text:
            return None
        if write.op != "add" and write.id not in state:
            return None
        if write.op == "delete":
            del state[write.id]
        else:
            state[write.id] = write.text
    return state
