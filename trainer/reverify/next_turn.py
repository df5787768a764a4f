"""How the user's next turn takes an answer: by a judge, or, as a mere hint, by words such as "no, it is"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from recollect.events import LoggedTrajectory
from recollect.messages import last_user_text
from recollect.trajectory import NEXT_TURN, Reward
from trainer.rewards.judge import Judge

NAME = "next_turn"
ALIKE = 0.6
"""Share of two questions' words that are common from which on the second is the first one asked again."""
_THAT_IS = r"that(?:'s|\u2019s| is)"
_CORRECTS = re.compile(rf"\W*(no|nope|wrong|incorrect|not (quite|right|true)|{_THAT_IS} (wrong|not))\b", re.IGNORECASE)
_ACCEPTS = re.compile(rf"\W*(thanks|thank you|great|perfect|exactly|correct|{_THAT_IS} (right|correct|it))\b", re.IGNORECASE)


class Followed(NamedTuple):
    """A trajectory, what was asked, and what the user said next in the same session."""

    item: LoggedTrajectory
    question: str
    said: str


def followed(logged: Sequence[LoggedTrajectory]) -> Iterator[Followed]:
    """Every answer that the same user went on from. `logged` is in the order of the log."""
    before: dict[tuple[str, ...], LoggedTrajectory] = {}
    for item in logged:
        t = item.trajectory
        key = (t.tenant, t.namespace, t.session, t.agent)
        said = last_user_text(t.request)
        if (earlier := before.get(key)) is not None and earlier.trajectory.answer and said:
            yield Followed(earlier, last_user_text(earlier.trajectory.request), said)
        before[key] = item


def hinted(turn: Followed) -> Reward | None:
    """By words alone: 0 if the user says no or asks the same again, 1 if they thank or confirm; None if the words say nothing."""
    if _CORRECTS.match(turn.said) or _alike(turn.question, turn.said) >= ALIKE:
        return _reward(0.0, by="words")
    return _reward(1.0, by="words") if _ACCEPTS.match(turn.said) else None


async def judged(turn: Followed, judge: Judge) -> Reward:
    """By the judge: not scored where it cannot tell, or failed, with the reason."""
    verdict = await judge.reaction(turn.question, turn.item.trajectory.answer, turn.said)
    return _reward(verdict.score, by="judge", reason=verdict.reason)


def _reward(score: float | None, *, by: str, reason: str | None = None) -> Reward:
    metadata = {"source": NEXT_TURN, "by": by} | ({"reason": reason} if reason else {})
    return Reward.model_validate({"name": NAME, "score": score, "weight": 0.0, "metadata": metadata})


def _alike(one: str, other: str) -> float:
    """The share of the words of both that are in both, in [0, 1]."""
    words = [set(re.findall(r"\w+", text.lower())) for text in (one, other)]
    union = words[0] | words[1]
    return len(words[0] & words[1]) / len(union) if union else 0.0
