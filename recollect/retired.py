"""Versions that answer no more because of what they learned from: `retired.json` beside the manifest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from recollect.model import Record
from recollect.trajectory import now

RETIRED = "retired.json"


class Retired(Record):
    """`retired.json`: since when, by which certificate of forgetting, and why."""

    at: datetime = Field(default_factory=now)
    certificate: str
    reason: str


def retired_in(folder: Path) -> Retired | None:
    """What retired the version in `folder`; None if nothing did. A file that cannot be read retires it too."""
    file = folder / RETIRED
    try:
        return Retired.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return Retired(at=at, certificate="unknown", reason=f"its {RETIRED} cannot be read")
