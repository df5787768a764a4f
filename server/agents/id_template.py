"""A prompt as token ids with slots: its fixed parts are encoded once, values are joined in as the ids they were sampled as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.agents.prompts import Prompt
from server.engines.base import Engine


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for ids, and the ids that follow it. `lead` is the space that stood before it in the prompt, if one did.

    Byte-pair tokenizers write a space with the word after it. So a value that is encoded from text is encoded together with
    the lead, and before one that was sampled, whose ids are not touched, the lead stands as `lead_ids`.
    """

    name: str
    lead: str
    lead_ids: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IdTemplate:
    """`begin`, then each slot's value and what follows it. `tail` is the last text, for what the answer begins after."""

    begin: tuple[int, ...]
    slots: tuple[Slot, ...]
    tail: str

    @property
    def num_fixed(self) -> int:
        """Tokens of the prompt without the values."""
        return len(self.begin) + sum(len(slot.lead_ids) + len(slot.after) for slot in self.slots)

    def slot(self, name: str) -> Slot:
        """The slot of that name."""
        return next(slot for slot in self.slots if slot.name == name)

    def join(self, values: Mapping[str, Sequence[int]]) -> list[int]:
        """The prompt with `values`, leads included, in its slots."""
        ids = list(self.begin)
        for slot in self.slots:
            ids += [*values[slot.name], *slot.after]
        return ids


async def build(engine: Engine, prompt: Prompt, fields: Mapping[str, str], slots: Sequence[str]) -> IdTemplate:
    """Render `prompt` with `fields` under the engine's chat template and cut it at `slots`, which are named in their order."""
    marks = {name: _unused(f"slot-{name}", fields) for name in slots}
    rest = await engine.render(prompt.render(**fields, **marks))
    texts: list[str] = []
    for name in slots:
        text, _, rest = rest.partition(marks[name])
        texts.append(text)
    texts.append(rest)
    leads = [" " if text.endswith(" ") else "" for text in texts[:-1]]
    fixed = [text.removesuffix(lead) for text, lead in zip(texts, [*leads, ""], strict=True)]
    ids = [tuple(await engine.encode(text)) for text in fixed]
    lead_ids = [tuple(await engine.encode(lead)) if lead else () for lead in leads]
    found = tuple(Slot(*parts) for parts in zip(slots, leads, lead_ids, ids[1:], strict=True))
    return IdTemplate(begin=ids[0], slots=found, tail=rest)


def _unused(mark: str, fields: Mapping[str, str]) -> str:
    """A mark that none of the values contains, nor any prompt of ours."""
    number = 0
    while any(f"[[{mark}-{number}]]" in value for value in fields.values()):
        number += 1
    return f"[[{mark}-{number}]]"
