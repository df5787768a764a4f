"""How many tokens a section and the memory of `reader` may have, so that every one of its prompts fits the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from recollect.errors import ConfigurationError, ContextTooLong

DEFAULTS = {"compact": (80, 48)}
OTHER = (5_000, 1_024)
"""MemAgent's (arXiv 2507.02259): with a question of 1,024 tokens these fill a window of 8,192."""
MIN_SECTION = 32
CHARS_PER_TOKEN = 4
"""For engines that count no tokens."""


class Sizes(NamedTuple):
    """Tokens of a section, and of a memory: the one that is read and the one that is written alike."""

    section: int
    memory: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Sizes as configured. One that was left open (`section_fixed`, `memory_fixed` False) shrinks to fit the window."""

    section: int
    memory: int
    section_fixed: bool
    memory_fixed: bool

    @classmethod
    def of(cls, section: int, memory: int, pack: str) -> Budget:
        """The sizes of the settings; 0 stands for the pack's."""
        default_section, default_memory = DEFAULTS.get(pack, OTHER)
        return cls(section or default_section, memory or default_memory, section > 0, memory > 0)

    def fit(self, num_fixed: int, num_question: int, window: int | None, num_memories: int = 1) -> Sizes:
        """The sizes for a prompt of `num_fixed` tokens (`num_question` of them the question's) in a window.

        `num_memories` are read with a section; one is written.

        Raises ConfigurationError if the configured sizes fit with no question at all, ContextTooLong if this question is too long.
        """
        if window is None:
            return Sizes(self.section, self.memory)
        memory = self.memory if self.memory_fixed else min(self.memory, window // 8)
        room = window - num_fixed - (num_memories + 1) * memory
        if not self.section_fixed and room >= MIN_SECTION:
            return Sizes(min(self.section, room), memory)
        wanted = self.section if self.section_fixed else MIN_SECTION
        if room >= wanted:
            return Sizes(wanted, memory)
        if room + num_question < wanted:
            raise ConfigurationError(
                f"a section of {wanted} tokens, memories of {memory} ({num_memories} read, one written) and the prompt's "
                f"{num_fixed - num_question} do not fit the window of {window}; lower agents.section_tokens or agents.memory_tokens",
                param="agents.section_tokens",
            )
        raise ContextTooLong(num_fixed + memory + wanted, window, memory)
