"""The terminal that commands print stored text on: what somebody wrote into a memory cannot steer it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]


def harmless(text: str) -> str:
    """`text` without control characters (C0, DEL, C1), but with its line breaks and tabs."""
    return text.translate(_CONTROLS)


class Screen(Console):
    """A console that drops control characters from whatever it renders; its own, as `Segment.control`, stay.

    They are dropped and not made visible, because rich has measured them as zero cells wide.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
