"""Which sessions a canary answers: those that fall under its share and began after it, each for as long as the canary is in force."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple, Protocol

from recollect.canary import Canary, Figures, OpenCanary, Session, answered_by_canary
from recollect.model import Frozen
from recollect.policy import Policy

MOST_SESSIONS = 20_000


class CanaryState(Frozen):
    """A version that answers a share of the sessions until it is decided, or until `until`. `answers`: it is loaded, and does."""

    version: int
    name: str
    share: float
    since: datetime
    until: datetime
    answers: bool
    figures: Figures


class Trials(Protocol):
    """What is known of canaries beside the registry: from the log."""

    async def before(self, policy: str, one: OpenCanary) -> AbstractSet[Session] | None:
        """The sessions that were answered with another version before the canary began, or since; None if nobody knows."""
        ...

    def figures(self, policy: str, version: int) -> Figures:
        """What rewards say of a canary so far."""
        ...


class Route(NamedTuple):
    """A canary that is loaded. `before` are the sessions that were answered with another version already, and stay with it."""

    policy: Policy
    canary: Canary
    before: AbstractSet[Session]

    def takes(self, tenant: str, session: Session) -> bool:
        """Whether it answers a session."""
        return session not in self.before and answered_by_canary(self.policy.name, self.canary.share, tenant, session)


class RecentSessions:
    """The sessions that asked last, in this process: the log knows of an answer only when it has ended."""

    def __init__(self, idle_s: float) -> None:
        """`idle_s`: in which a session ends by itself."""
        self._idle_s = idle_s
        self._at: OrderedDict[Session, float] = OrderedDict()

    def asked(self, session: Session) -> None:
        """A session asks now."""
        self._at[session] = time.monotonic()
        self._at.move_to_end(session)
        if len(self._at) > MOST_SESSIONS:
            self._at.popitem(last=False)

    def going_on(self) -> set[Session]:
        """Those that have not ended."""
        begin = time.monotonic() - self._idle_s
        return {session for session, at in self._at.items() if at >= begin}
