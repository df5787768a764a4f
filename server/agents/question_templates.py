"""The prompts of one question as token ids, built once for all readings that ask it: siblings of a group ask the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server.agents import id_template
from server.agents.id_template import IdTemplate
from server.agents.prompts import Prompt
from server.engines.base import Engine

MAX_CACHED = 256
QUESTION = "question"


@dataclass(frozen=True, slots=True)
class QuestionTemplates:
    """The two prompts of one question as ids, and what stands in each slot for a memory where there is none (by slot)."""

    section: IdTemplate
    section_empty: Mapping[str, list[int]]
    answer: IdTemplate
    answer_empty: Mapping[str, list[int]]
    num_question: int
    """Tokens of the question in the section's prompt."""

    def value(self, slot: str, memory: Sequence[int] | None) -> list[int]:
        """What stands in a memory's slot while reading: what was sampled, untouched; where nothing was, the prompt's word for it."""
        return _value(self.section, slot, memory, self.section_empty)

    def answered_from(self, memory: Sequence[int] | None) -> list[int]:
        """The same for the answer."""
        return _value(self.answer, "memory", memory, self.answer_empty)


@dataclass(frozen=True, slots=True)
class TemplateCache:
    """The templates of the questions that were asked latest."""

    _tasks: dict[tuple[str, str], asyncio.Task[QuestionTemplates]] = field(
        default_factory=dict[tuple[str, str], asyncio.Task[QuestionTemplates]]
    )

    async def get(self, question: str, engine: Engine, section: Prompt, answer: Prompt) -> QuestionTemplates:
        """The templates of a question. Raises what the engine raises; a failure is not kept."""
        key = (engine.base, question)
        task = self._tasks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._tasks[key] = asyncio.create_task(_build(question, engine, section, answer))
            if len(self._tasks) > MAX_CACHED:
                del self._tasks[next(iter(self._tasks))]
        return await asyncio.shield(task)


async def _build(question: str, engine: Engine, section_prompt: Prompt, answer_prompt: Prompt) -> QuestionTemplates:
    fields = {QUESTION: question}
    section = await id_template.build(engine, section_prompt, fields, _slots(section_prompt))
    answer = await id_template.build(engine, answer_prompt, fields, _slots(answer_prompt))
    return QuestionTemplates(
        section=section,
        section_empty=await _empty(engine, section, section_prompt),
        answer=answer,
        answer_empty=await _empty(engine, answer, answer_prompt),
        num_question=len(await engine.encode(question)) if QUESTION in section_prompt.fields else 0,
    )


def _slots(prompt: Prompt) -> list[str]:
    return [name for name in prompt.fields if name != QUESTION]


async def _empty(engine: Engine, template: IdTemplate, prompt: Prompt) -> dict[str, list[int]]:
    return {slot.name: await engine.encode(slot.lead + prompt.empty_memory) for slot in template.slots if slot.name != "section"}


def _value(template: IdTemplate, slot: str, memory: Sequence[int] | None, empty: Mapping[str, list[int]]) -> list[int]:
    return [*template.slot(slot).lead_ids, *memory] if memory else empty[slot]
