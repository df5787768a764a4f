"""Log-probabilities of what an answer says, parted from those of what was thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.agents.base import StreamEvent


class SaidTokens:
    """Of one choice, whose events come in order."""

    def __init__(self) -> None:
        self._thinking = False

    def told(self, event: StreamEvent) -> Sequence[dict[str, Any]]:
        """Those of the event that belong to no thought.

        What comes without any text while the model thinks is the thought's: the marks around it have no text. Where text and thought
        come in one piece, as of an engine that streams nothing, those of the text are found by their bytes.
        """
        says = bool(event.text or event.calls)
        self._thinking = not says and (self._thinking or bool(event.reasoning))
        if self._thinking:
            return ()
        return _of_text(event) if event.reasoning else event.told


def _of_text(event: StreamEvent) -> Sequence[dict[str, Any]]:
    if not event.text:
        return ()
    spelled = [bytes(entry["bytes"]) if entry["bytes"] else entry["token"].encode() for entry in event.told]
    before = b"".join(spelled).rfind(event.text.encode())
    if before < 0:  # not spelled as the text is: they cannot be told apart
        return event.told
    for number, token in enumerate(spelled):
        if before < len(token):
            return event.told[number:]
        before -= len(token)
    return ()
