"""The base class of everything that crosses HTTP, disk or a process: frozen, and strict about unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value. Unknown fields are errors, so that a misspelt one is never dropped in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(BaseModel):
    """An immutable value that is read back from disk: unknown fields of a later version are kept, not refused."""

    model_config = ConfigDict(frozen=True, extra="allow")
