"""The options of each task source, as YAML writes them. Paths are those of the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from recollect.model import Frozen
from trainer.environments import dialogue_memory, fact_consolidation
from trainer.seed.reading import SECTION_TOKENS
from trainer.seed.world import Part


class Options(Frozen):
    """What all sources take."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # YAML reads `seed: 0` and `categories: [1, 4]` as numbers

    tokenizer: Path | None = None
    """Counts the tokens where no counter is given; None: the seed model's."""
    seed: str = "0"


class Generated(Options):
    """Source `dialogue`. `part` is that of the invented world: what is trained on, or what is held out."""

    count: int = Field(default=128, ge=1)
    part: Part = "held_out"
    difficulty: Literal["easy", "hard"] = "easy"


class GeneratedDialogue(Generated):
    """Source `dialogue`: `agent` is told and asked."""

    agent: str = "memory"


class GeneratedReading(Generated):
    """Source `reading`. Without `num_sections` an easy document has 3 sections, a hard one 6."""

    num_sections: int | None = Field(default=None, ge=1)
    section_tokens: int = Field(default=SECTION_TOKENS, ge=40)


class Frequent(Options):
    """Source `frequent`."""

    count: int = Field(default=128, ge=1)
    part: Part = "held_out"
    num_sections: int = Field(default=3, ge=1)
    section_tokens: int = Field(default=SECTION_TOKENS, ge=80)


class Ruler(Options):
    """Source `ruler`: `count` tasks of each type; all thirteen without `tasks`. `length` is in tokens, the answer's included."""

    tasks: tuple[str, ...] = ()
    length: int = Field(ge=1)
    count: int = Field(default=100, ge=1)
    essays: Path | None = None
    """A text file, or a folder of `.txt` files."""
    squad: Path | None = None
    hotpotqa: Path | None = None


class Babilong(Options):
    """Source `babilong`: `file` is of bAbI's format, `filler` a text file. `length` is in tokens."""

    file: Path
    filler: Path
    length: int = Field(ge=1)
    count: int = Field(default=100, ge=1)


class Hotpotqa(Options):
    """Source `hotpotqa`: documents up to `length` tokens, or `num_documents` of them."""

    file: Path
    length: int | None = Field(default=None, ge=1)
    num_documents: int | None = Field(default=None, ge=1)
    count: int = Field(default=128, ge=1)


class Prepared(Options):
    """Source `prepared`: contexts that are made already, in MemAgent's fields. Without `count` all of them."""

    file: Path
    count: int | None = Field(default=None, ge=1)


class Dialogues(Options):
    """Sources `locomo` and `longmemeval`: the file tells which format it is of."""

    file: Path
    form: dialogue_memory.Form = "told"
    agent: str = "memory"
    categories: tuple[str, ...] | None = None
    count: int | None = Field(default=None, ge=1)


class Rerank(Options):
    """Source `rerank`: of a file's questions, or generated ones of a `part` of the invented world without a file."""

    file: Path | None = None
    candidates: int = Field(default=8, ge=3)
    count: int = Field(default=128, ge=1)
    part: Part = "held_out"
    agent: str = "memory"


class Facts(Options):
    """Source `fact_consolidation`. Without `count` all questions."""

    file: Path
    form: fact_consolidation.Form = "read"
    hops: Literal["single", "multi"] | None = None
    agent: str | None = None
    count: int | None = Field(default=None, ge=1)
