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
from typing import NoReturn, ParamSpec

from trainer import rank_messages

P = ParamSpec("P")


def led(command: Callable[P, None]) -> Callable[P, None]:
    """The command as it is in a process alone; of several that torchrun started the first runs it, the others make updates with it."""

    @functools.wraps(command)
    def started(*given: P.args, **named: P.kwargs) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            command(*given, **named)
        elif int(os.environ["RANK"]):
            _follow()
        else:
            with _ended_in_order(), rank_messages.telling():
                command(*given, **named)

    return started


def _follow() -> None:
    """Do what the leader tells, until it ends."""
    from trainer.trl_bridge import Learner

    learner: Learner | None = None
    for call, named in rank_messages.told():
        if call == Learner.__name__:
            learner = Learner(**named)
            continue
        with suppress(FloatingPointError):  # the leader's update diverged too, and it decides what becomes of the run
            getattr(learner, call)(**named)


@contextmanager
def _ended_in_order() -> Generator[None]:
    """torchrun ends the leader with SIGTERM when another process has failed: it lets go of what the engine has loaded."""
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(*_: object) -> NoReturn:
    rank_messages.alone()
    raise SystemExit(128 + signal.SIGTERM)
