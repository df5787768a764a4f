"""Which sessions a canary answers: those that fall under its share and began after it, each for as long as the canary is in force."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from recollect.canary import Canary, Session, answered_by_canary
from recollect.policy import Policy

MOST_SESSIONS = 20_000


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
