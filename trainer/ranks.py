"""Several processes that make each update together, as torchrun starts them: the first runs everything, the others follow it.

`torchrun --no-python --nproc_per_node 2 recollect train …`: the leader reads the log, rolls out, measures and publishes. Before it loads
a model, makes an update or restores a checkpoint it tells the others to do the same; in between they wait.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, cast

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from trainer.trl_bridge import Learner

P = ParamSpec("P")
PATIENCE = timedelta(days=2)
"""How long a follower waits for the next update: rollouts may take hours."""
_END = "end"
_followers: ProcessGroup | None = None


def led(command: Callable[P, None]) -> Callable[P, None]:
    """The command as it is in a process alone; of several that torchrun started the first runs it, the others make updates with it."""

    @functools.wraps(command)
    def started(*given: P.args, **named: P.kwargs) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            command(*given, **named)
        elif int(os.environ["RANK"]):
            _follow()
        else:
            with _leading():
                command(*given, **named)

    return started


def tell(call: str, **named: Any) -> None:
    """Have the followers, if there are any, call a method of their learner, or make one (`Learner`)."""
    if _followers is not None:
        _broadcast([(call, named)], _followers)


@contextmanager
def _leading() -> Generator[None]:
    global _followers
    # torchrun ends the others so when one has failed: let go of what the engine has loaded
    before = signal.signal(signal.SIGTERM, _ended)
    _followers = _group()
    try:
        yield
    finally:
        tell(_END)
        _followers = None
        signal.signal(signal.SIGTERM, before)


def _ended(*_: object) -> NoReturn:
    global _followers
    _followers = None  # nobody is there any more to be told
    raise SystemExit(128 + signal.SIGTERM)


def _follow() -> None:
    """Do what the leader tells, until it ends."""
    from trainer.trl_bridge import Learner

    group = _group()
    learner: Learner | None = None
    while True:
        [(call, named)] = _broadcast([None], group)
        if call == _END:
            return
        if call == Learner.__name__:
            learner = Learner(**named)
            continue
        with suppress(FloatingPointError):  # the leader's update diverged too, and it decides what becomes of the run
            getattr(learner, call)(**named)


def _group() -> ProcessGroup:
    """All processes, for messages on the CPU, whatever device they compute on."""
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    return cast("ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))


def _broadcast(message: list[Any], group: ProcessGroup) -> list[Any]:
    import torch.distributed as dist

    dist.broadcast_object_list(message, src=0, group=group)
    return message
