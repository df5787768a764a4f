"""The parts that agents are composed of. A class of one's own that fits one of these can stand in for any of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from recollect.messages import Message
from recollect.model import Frozen
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.engines.base import Sampling

if TYPE_CHECKING:
    from server.agents.retriever import Recalled


class Fact(Frozen):
    """One thing that a turn says. `valid_at`: since when it holds in the world, where that was said."""

    text: str
    valid_at: datetime | None = None


class Extractor(Protocol):
    """Finds in a user's turn what may be worth remembering."""

    async def extract(self, turn: str, request: AgentRequest, ctx: AgentContext) -> Sequence[Fact]:
        """The facts of a turn, none if it states none."""
        ...


class Updater(Protocol):
    """Changes the memory by what was said."""

    async def update(self, turn: str, facts: Sequence[Fact], request: AgentRequest, ctx: AgentContext) -> None:
        """Decide and commit, all or nothing. `facts` is what the extractor found in `turn`; without one, the turn itself."""
        ...


class Retriever(Protocol):
    """Finds memories."""

    async def search(self, query: str, ctx: AgentContext) -> list[Recalled]:
        """The memories that bear on a text. Raises EmbedderError: a failed search is not an empty one."""
        ...


class Reranker(Protocol):
    """Chooses among what was retrieved."""

    async def rerank(self, query: str, candidates: Sequence[Recalled], ctx: AgentContext, *, sampling: Sampling) -> list[Recalled]:
        """Those that are to be shown, in the order in which they are shown. `sampling` is the request's, for one that calls a model."""
        ...


class Answerer(Protocol):
    """Answers with memories in front of it."""

    def answer(
        self, conversation: Sequence[Message], memories: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[StreamEvent, None]:
        """Stream the answer. Raises ContextTooLong and what the engine raises."""
        ...


class Reader(Protocol):
    """Answers a question about a document of any length."""

    def read(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Read, then stream the answer."""
        ...
