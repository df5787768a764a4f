"""What stands before and after the marker of an answer: the memories that the model chose, and the short answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from server.agents.base import StreamEvent
from server.agents.carried import CLOSE, OPEN


class Parts(NamedTuple):
    """`chosen` is what was written before the marker, None if there is no marker; `answer` what stands after it."""

    chosen: str | None
    answer: str


def split(text: str, marker: str) -> Parts:
    """The parts of a whole completion. Without a marker all of it is the answer. A marker in a thought does not count."""
    start = _start(text)
    at = -1 if start is None else text.find(marker, start)
    return Parts(None, text) if at < 0 else Parts(text[start:at], text[at + len(marker) :].lstrip())


def _start(text: str) -> int | None:
    """Where what follows the thought begins; None inside of one."""
    if not text.lstrip().startswith(OPEN):
        return 0
    end = text.find(CLOSE)
    return None if end < 0 else end + len(CLOSE)


@dataclass(slots=True)
class _Choice:
    """One choice of a stream, held back until its marker has come and something stands after it."""

    marker: str
    held: str = ""
    sending: bool = False

    def take(self, text: str, *, last: bool) -> str:
        """What may be sent of the text so far; at the end without a marker everything, rather than nothing."""
        if self.sending:
            return text
        self.held += text
        chosen, answer = split(self.held, self.marker)
        self.sending = last or (chosen is not None and answer != "")
        return answer if self.sending else ""


async def short_answers(events: AsyncIterator[StreamEvent], marker: str) -> AsyncGenerator[StreamEvent, None]:
    """The events with the text of each choice from its marker on, as it comes."""
    choices: dict[int, _Choice] = {}
    async for event in events:
        choice = choices.setdefault(event.index, _Choice(marker))
        text = choice.take(event.text, last=event.finish_reason is not None)
        if text or event.reasoning or event.finish_reason or event.usage:
            yield replace(event, text=text)
