"""Baselines: agents that answer with nothing, with everything, or with what one kind of search finds.

They keep every turn and every passage as it was, by no model call, and answer in one call with the server's own prompts. They
differ only in what they are shown: nothing (`no-memory`), all of it (`full-context`), or the best by full text (`rag-text`) or
by vectors (`rag-dense`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from recollect.errors import ContextTooLong
from recollect.memory import MAX_TEXT, MemoryRecord, MemoryWrite
from recollect.messages import last_user_text, user
from recollect.settings import AgentSettings
from recollect.trajectory import MemoryOp
from server.agents import document
from server.agents.answerer import Answerer
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.document import Reading
from server.agents.fence import Fence
from server.agents.memory_ids import memory_id, provenance
from server.agents.prompts import Prompt, load_prompt
from server.agents.retriever import QUERY_CHARS, Recalled, within
from server.agents.streams import events_of
from trainer.suites.passages import passages, without_middle

Shown = Literal["nothing", "all", "text", "dense"]
BASELINES: dict[str, Shown] = {"no-memory": "nothing", "full-context": "all", "rag-text": "text", "rag-dense": "dense"}
PASSAGE_CHARS = {"compact": 120}
OTHER_PASSAGE_CHARS = 1_000
WRITER, READER = "writer", "reader_answer"
PAGE = 1_000
POSITION = "position"


@dataclass(frozen=True, slots=True)
class Baseline:
    """One of BASELINES. What does not fit the window is given up: half of what was found last, or the middle of a document
    (MemAgent's centre truncation, arXiv 2507.02259), or the oldest turns."""

    id: str
    shown: Shown
    answerer: Answerer
    read_prompt: Prompt
    passage_chars: int
    limit: int
    max_chars: int
    config_hash: str

    @classmethod
    def build(cls, name: str, settings: AgentSettings, pack: str) -> Baseline:
        """Wire the baseline called `name`. Raises ConfigurationError for a pack that lacks a prompt."""
        answer, read = load_prompt(pack, "answer"), load_prompt(pack, "read_answer")
        passage = PASSAGE_CHARS.get(pack, OTHER_PASSAGE_CHARS)
        resolved = settings.model_dump(include={"policy", "retrieve", "memory_chars"}) | {"prompts": pack, "passage_chars": passage}
        return cls(
            id=name,
            shown=BASELINES[name],
            answerer=Answerer(settings.policy, answer, Fence.of(answer)),
            read_prompt=read,
            passage_chars=passage,
            limit=settings.retrieve,
            max_chars=settings.memory_chars,
            config_hash=config_hash(name, resolved, {"answer": answer, "read_answer": read}),
        )

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset({self.answerer.alias})

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer with what is shown; of a document in the request, passages."""
        reading = document.split(request.messages)
        if reading.document and self.shown in ("text", "dense"):
            await self._keep(passages(document.told(reading.document), self.passage_chars), ctx)
        memories = await self._chosen(reading.question, ctx)
        if reading.document:
            events = self._read(reading, memories, request, ctx)
        else:
            events = self.answerer.answer([user(reading.question)], memories, request, ctx)
        async with aclosing(events):
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing yet: a turn is kept with its reply."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Keep the user's turn, its day and its reply as they were said."""
        said = last_user_text(list(request.messages)).strip()
        day = f"[{ctx.at:%Y-%m-%d %H:%M}] " if ctx.at else ""
        text = f"{day}{said}\nassistant: {answer.strip()}" if answer.strip() and self.shown != "nothing" else f"{day}{said}"
        if said and self.shown != "nothing":
            await self._keep([text[i : i + MAX_TEXT] for i in range(0, len(text), MAX_TEXT)], ctx)

    async def _keep(self, texts: Sequence[str], ctx: AgentContext) -> None:
        step = ctx.recorder.begin_operation(WRITER)
        writes = [
            MemoryWrite(
                op="add",
                id=memory_id(ctx, step, position),
                text=text,
                kind="episodic",
                metadata={POSITION: position},
                valid_at=ctx.at,
                provenance=provenance(ctx, step),
                trust="user",
            )
            for position, text in enumerate(texts)
        ]
        await ctx.store.apply(ctx.namespace, writes)
        ctx.recorder.amend(step, memory_ops=[MemoryOp(op="add", id=write.id, text=write.text) for write in writes])

    async def _chosen(self, question: str, ctx: AgentContext) -> list[Recalled]:
        """What is shown, oldest first."""
        match self.shown:
            case "nothing":
                return []
            case "all":
                records = await _everything(ctx)
                return [Recalled(record, float(position), record.text) for position, record in enumerate(records)]
            case "text" | "dense":
                hits = await ctx.store.search(ctx.namespace, question[-QUERY_CHARS:], limit=self.limit, mode=self.shown)
                return sorted(within(hits, self.max_chars), key=lambda found: _place(found.record))

    async def _read(
        self, reading: Reading, memories: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[StreamEvent, None]:
        told = [m.text for m in memories]
        text = "\n".join([*told, document.told(reading.document)] if self.shown == "all" else told)
        policy = ctx.policies[self.answerer.alias]
        while True:
            messages = self.read_prompt.render(question=reading.question, memory=text or self.read_prompt.empty_memory)
            chunks = ctx.recorder.call(
                ctx.engine.chat(messages, policy=policy, sampling=request.sampling, stream=request.stream, salt=ctx.salt),
                role=READER,
                policy=policy,
                alias=self.answerer.alias,
                sampling=request.sampling,
                messages=messages,
                retrieved=[m.ref for m in memories],
            )
            try:
                async with aclosing(events_of(chunks, ctx.recorder.usage)) as events:
                    async for event in events:
                        yield event
                return
            except ContextTooLong as exc:
                if not text:
                    raise
                text = without_middle(text, 0.95 * exc.window_tokens / exc.prompt_tokens if exc.prompt_tokens else 0.5)


def baselines(settings: AgentSettings, pack: str) -> dict[str, Baseline]:
    """All of them, by id."""
    return {name: Baseline.build(name, settings, pack) for name in BASELINES}


async def _everything(ctx: AgentContext) -> list[MemoryRecord]:
    found: list[MemoryRecord] = []
    while len(page := await ctx.store.list(ctx.namespace, limit=PAGE, offset=len(found))) > 0:
        found += page
    return sorted(found, key=_place)


def _place(record: MemoryRecord) -> tuple[int, int]:
    """When it was kept, and where in its document it stood."""
    return record.seq_from, int(record.metadata.get(POSITION, 0))
