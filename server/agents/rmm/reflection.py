"""Prospective reflection (RMM, arXiv 2503.08026): at a session's end its raw turns become topic memories, added or merged, in one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recollect.errors import EngineError
from recollect.memory import MemoryRecord, MemoryWrite, Provenance
from recollect.trajectory import MemoryOp
from server.agents.base import AgentContext
from server.agents.retriever import QUERY_CHARS
from server.agents.rmm.extractor import Speaker, Topic, TopicExtractor
from server.agents.rmm.merger import TopicMerger
from server.agents.rmm.topics import OF_TOPICS, TAG, referring, said_by, turns_of


@dataclass(frozen=True, slots=True)
class Reflection:
    """`similar`: how many topic memories a new one is compared with. `speakers`: whose topics are extracted, a call each."""

    extractor: TopicExtractor
    merger: TopicMerger
    similar: int
    speakers: tuple[Speaker, ...] = ("user",)

    async def reflect(self, session: str, ctx: AgentContext) -> list[MemoryRecord]:
        """Write the topic memories of what was said in a session since it was last reflected on; returns them as they now are.

        Nothing is written if anything fails, and repeating it is harmless: turns up to the last one that a topic memory refers to are
        done with, and a topic's id follows from its session, its speaker and its turns. Raises EngineError if the policy writes
        what cannot be read, and Conflict if a memory that is merged into was changed meanwhile: call it again.
        """
        turns, topics = await _known(session, ctx)
        new = _after_last(turns, {turn for topic in topics for turn in turns_of(topic)})
        found: list[Topic] = []
        for speaker in self.speakers:
            if not any(said_by(turn) == speaker for turn in new):
                continue
            extracted = await self.extractor.extract(new, speaker, ctx)
            if extracted is None:
                raise EngineError(f"the topics of session {session!r} could not be read from what the policy wrote; reflect on it again")
            found += extracted
        writes: dict[str, MemoryWrite] = {}
        for topic in found:
            write = await self._write(topic, session, writes, ctx)
            writes[write.id] = write
        if not writes:
            return []
        applied = await ctx.store.apply(ctx.namespace, list(writes.values()))
        for number in {topic.step for topic in found}:
            ops = [MemoryOp(op=w.op, id=w.id, text=w.text) for w in writes.values() if w.provenance.step == number]
            ctx.recorder.amend(number, memory_ops=ops)
        return [record for record in applied.records if record is not None]

    async def _write(self, topic: Topic, session: str, planned: Mapping[str, MemoryWrite], ctx: AgentContext) -> MemoryWrite:
        origin = Provenance(trajectory_id=ctx.recorder.trajectory_id, step=topic.step, session=session, channel=ctx.channel)
        trust: Speaker = topic.speaker
        filters = OF_TOPICS.model_copy(update={"trust": (trust,)})
        hits = await ctx.store.search(ctx.namespace, topic.summary[-QUERY_CHARS:], limit=self.similar, filters=filters)
        similar = [_as_planned(hit.record, planned) for hit in hits]
        merge = await self.merger.decide(topic.summary, similar, ctx) if similar else None
        if merge is None:
            return MemoryWrite(
                op="add",
                id=_topic_id(topic, session, ctx),
                text=topic.summary,
                metadata=referring(topic.turns),
                tags=(TAG,),
                trust=trust,
                valid_at=ctx.at,
                provenance=origin,
            )
        record = similar[merge.number - 1]
        return MemoryWrite(
            op="update",
            id=record.id,
            text=merge.text,
            metadata=record.metadata | referring([*turns_of(record), *topic.turns]),
            tags=record.tags,
            trust=trust,
            valid_at=record.valid_at,
            importance=record.importance,
            provenance=origin,
            if_seq=record.seq_from,
        )


def _as_planned(record: MemoryRecord, planned: Mapping[str, MemoryWrite]) -> MemoryRecord:
    """The record as an earlier topic of the same batch will leave it."""
    write = planned.get(record.id)
    return record if write is None else record.model_copy(update={"text": write.text, "metadata": write.metadata})


def _after_last(turns: Sequence[MemoryRecord], referred: set[str]) -> list[MemoryRecord]:
    """The turns after the last one that is referred to."""
    done = max((place for place, turn in enumerate(turns) if turn.id in referred), default=-1)
    return list(turns[done + 1 :])


async def _known(session: str, ctx: AgentContext) -> tuple[list[MemoryRecord], list[MemoryRecord]]:
    """The raw turns of a session, oldest first, and all topic memories."""
    turns: list[MemoryRecord] = []
    topics: list[MemoryRecord] = []
    async for record in ctx.store.export(ctx.namespace):
        if record.kind == "episodic" and record.provenance.session == session:
            turns.append(record)
        elif TAG in record.tags:
            topics.append(record)
    return turns, topics


def _topic_id(topic: Topic, session: str, ctx: AgentContext) -> str:
    origin = "/".join((str(ctx.namespace), session, topic.speaker, *topic.turns, topic.summary))
    return f"mem_{hashlib.sha256(origin.encode()).hexdigest()[:24]}"
