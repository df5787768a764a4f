"""Turns of other conversations, to share the namespace of one that is asked about."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, groupby

from memory_store.evaluate.conversations import Conversation, Turn
from recollect.errors import InvalidRequest

SEED = 0


def strangers(conversations: Iterable[Conversation], count: int) -> Sequence[Turn]:
    """`count` turns of the conversations, by whole sessions in a fixed random order, so that the first few are a sample of all.

    Their ids and sessions are like no turn's of a conversation. Raises InvalidRequest if there are fewer.
    """
    sessions: list[list[Turn]] = []
    for number, conversation in enumerate(conversations):
        for session, turns in groupby(conversation.turns, key=lambda turn: turn.session):
            sessions.append([replace(turn, id=f"other-{number}.{turn.id}", session=f"other-{number}.{session}") for turn in turns])
    random.Random(SEED).shuffle(sessions)
    found = list(chain.from_iterable(sessions))
    if len(found) < count:
        raise InvalidRequest(f"{count} turns of other conversations are needed, {len(found)} are there; add files", param="distractors")
    return found[:count]
