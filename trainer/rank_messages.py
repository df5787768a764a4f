"""What the first of several processes tells the others: which method of their learner to call, and with what."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(days=2)
"""How long a follower waits for the next message: rollouts may take hours."""
END = "end"
_followers: ProcessGroup | None = None


@contextmanager
def telling() -> Generator[None]:
    """Be the first of several processes. At the end the others are told to end."""
    global _followers
    _followers = _group()
    try:
        yield
    finally:
        if _followers is not None:
            tell(END)
            alone()
            _leave()


def tell(call: str, **named: Any) -> None:
    """Have the followers, if there are any, call a method of their learner, or make one (`Learner`)."""
    if _followers is not None:
        _broadcast([(call, named)], _followers)


def alone() -> None:
    """Tell nobody anything any more: there are no followers, or none that live."""
    global _followers
    _followers = None


def told() -> Generator[tuple[str, dict[str, Any]]]:
    """Be one of the others: each message but the last."""
    group = _group()
    while (message := _broadcast([None], group)[0])[0] != END:
        yield message
    _leave()


def _group() -> ProcessGroup:
    """All processes, for messages on the CPU, whatever device they compute on."""
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    return cast("ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))


def _leave() -> None:
    """End the threads that carry messages: a process that goes with them running is aborted now and then, though its work is done."""
    import torch.distributed as dist

    dist.destroy_process_group()


def _broadcast(message: list[Any], group: ProcessGroup) -> list[Any]:
    import torch.distributed as dist

    dist.broadcast_object_list(message, src=0, group=group)
    return message
