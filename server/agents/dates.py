"""Relative dates of a fact, resolved against the day on which it was said: read later, "yesterday" would be another day."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_NUMBER = r"(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_UNITS = r"(?:day|week|month|year)s?"
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_RELATIVE = re.compile(
    rf"\b(?:(?:the )?day (?:before yesterday|after tomorrow)|yesterday|today|tonight|tomorrow|this (?:morning|afternoon|evening)|last night"
    rf"|(?:last|next) (?:{_DAY}|week|month|year)|{_NUMBER} {_UNITS} ago|in {_NUMBER} {_UNITS})\b"
    r"(?! \()",  # a date that stands there already
    re.I,
)
_FORMS = (("year", "%Y"), ("month", "%B %Y"), ("week", "week of {day} %B %Y"))


def dated(text: str, said_at: datetime | None) -> tuple[str, datetime | None]:
    """The text with the date behind each relative one in English, and the day that it is about if it names a single day.

    "went hiking yesterday" said on 22 November 2026 becomes "went hiking yesterday (21 November 2026)". Without `said_at` the
    text stays as it is. Days are those of UTC.
    """
    found = [] if said_at is None else [(match, _resolved(match[0], said_at)) for match in _RELATIVE.finditer(text)]
    days: list[datetime] = []
    for match, moment in reversed(found):
        if moment is None:
            continue
        coarse = next((form for unit, form in _FORMS if unit in match[0].lower()), None)
        if coarse is None:
            days.append(moment)
        shown = f"{moment:{(coarse or '{day} %B %Y').replace('{day}', str(moment.day))}}"
        text = f"{text[: match.end()]} ({shown}){text[match.end() :]}"
    return text, days[0].replace(hour=0, minute=0, second=0, microsecond=0) if len(days) == 1 else None


def _resolved(phrase: str, said_at: datetime) -> datetime | None:
    # Imported here: only facts with relative dates need it, and it takes a third of a second.
    import dateparser

    base = said_at.astimezone(UTC).replace(tzinfo=None)
    settings: Any = {"RELATIVE_BASE": base, "PREFER_DATES_FROM": "past"}
    moment = dateparser.parse(phrase.lower().removeprefix("the "), languages=["en"], settings=settings)
    return moment.replace(tzinfo=UTC) if moment else None
