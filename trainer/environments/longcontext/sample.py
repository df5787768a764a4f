"""One question on one long text, before it is made a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainer.environments.longcontext.fit import Length, most_that_fits


class Sample(NamedTuple):
    """A document, what is asked of it, the right answers, and the parts of the document that hold them."""

    document: str
    question: str
    gold: tuple[str, ...]
    evidence: tuple[str, ...] = ()

    def tokens(self, length: Length) -> int:
        """Of document and question."""
        return length(self.document) + length(self.question)


def fitted(build: Callable[[int], Sample], room: int, length: Length) -> Sample:
    """What `build` makes of as many units as `room` tokens hold. `build` must be pure. Raises InvalidRequest if none fits."""
    return build(most_that_fits(lambda units: build(units).tokens(length), room))
