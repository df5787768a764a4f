"""The `memory-r1` agent: two policies, a manager that writes memory after each turn and an answer agent that chooses from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from recollect.errors import ConfigurationError
from recollect.messages import Message
from server.agents.agent_config import AgentConfig
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.episodes import keep_turn
from server.agents.fence import Fence
from server.agents.memory_r1.banks import said_by_assistant, said_by_user
from server.agents.memory_r1.manager import Manager
from server.agents.modules import Answerer, Retriever
from server.agents.prompts import load_prompt
from server.agents.turns import is_continued, joined_user_turns, last_words
from server.agents.verbatim import words
from server.agents.wiring import Wiring, flow, needed


@dataclass(frozen=True, slots=True)
class MemoryR1Agent:
    """Answers from 30 + 30 candidates of two speakers; after the answer the manager changes the memory, fact by fact.

    `speakers` both: the reply is remembered too, as the second speaker's turn.
    """

    id: str
    config_hash: str
    aliases: frozenset[str]
    fence: Fence
    speakers: Literal["user", "both"]
    updater: Manager
    retriever: Retriever
    answerer: Answerer

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer with the memories of both speakers that bear on the last user turn."""
        conversation = self._conversation(request)
        question = last_words(conversation)
        recalled = await self.retriever.search(question, ctx) if request.use_memory and question.strip() else []
        memories = [m for m in recalled if words(m.record.text) != words(question)]
        async with aclosing(self.answerer.answer(conversation, memories, request, ctx)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: what is remembered takes model calls."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Let the manager change the memory by what was said. Where no more calls may be made the user's turn is kept as it was."""
        if not request.use_memory:
            return
        conversation = self._conversation(request)
        said = "" if is_continued(conversation) else _storable(last_words(conversation))
        if not ctx.may_call:
            await keep_turn(said, ctx)
            return
        turns = [await said_by_user(said, ctx)] if said else []
        reply = _storable(self.fence.strip(answer))
        if self.speakers == "both" and reply:
            turns.append(said_by_assistant(reply))
        if turns:
            await self.updater.update_all(turns, request, ctx)

    def _conversation(self, request: AgentRequest) -> list[Message]:
        return joined_user_turns(self.fence.clean(request.messages))


@flow("memory-r1")
def build(config: AgentConfig, wiring: Wiring) -> MemoryR1Agent:
    """Its updater is one that knows speakers, such as `manager`."""
    needed(config, wiring, ("retriever", "extractor", "updater", "answerer"), ())
    updater = wiring.modules["updater"]
    if not isinstance(updater, Manager):
        raise ConfigurationError("the flow 'memory-r1' needs the updater 'manager'", param=f"{config.id}.modules.updater.use")
    speakers = wiring.settings.speakers
    return MemoryR1Agent(
        id=config.id,
        config_hash=config_hash(config.id, wiring.resolved | {"speakers": speakers}, wiring.prompts),
        aliases=frozenset(wiring.aliases),
        fence=Fence.of(load_prompt(wiring.pack, "distill")),
        speakers=speakers,
        updater=updater,
        retriever=wiring.modules["retriever"],
        answerer=wiring.modules["answerer"],
    )


def _storable(text: str) -> str:
    return text.strip().encode(errors="replace").decode()  # half of a surrogate pair cannot be stored
