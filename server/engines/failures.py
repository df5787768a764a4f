"""What an HTTP error of an OpenAI-compatible server means, as one of our own errors."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from recollect.errors import ContextTooLong, EngineError, EngineUnavailable, InvalidRequest, NotFound, RecollectError

_WINDOW = re.compile(r"maximum context length (?:is |\()(\d+)")
_PROMPT = re.compile(
    r"(?:contains(?: at least)?|resulted in|Input length \(|has) ?(\d+)(?: (?:input )?tokens|\))"
    r"|\((\d+) in the messages"
    r"|contains (\d+) characters"
)
_SUBJECT = re.compile(r"`?(n|stop|seed|temperature|top_p|max_tokens|messages|prompt|presence_penalty|frequency_penalty)`? ")
_DIGITS = re.compile("[0-9]{1,6}")
MAX_SAID = 500
"""Characters of what a server says of itself: a long text is no error message."""
_DEAD = re.compile(r"EngineCore|EngineDead|engine is dead", re.IGNORECASE)
_REASONS = re.compile(r"'msg': '([^']*)'")
_FIELDS = {"input_tokens": "messages", "input_text": "messages", "max_model_len": "max_tokens", "max_completion_tokens": "max_tokens"}


def error_of(
    status: int, body: bytes | dict[str, Any], *, where: str, retry_after: str | None = None, key_setting: str = "engine.api_key"
) -> RecollectError:
    """The error for an answer with `status` and an OpenAI error body (or any other text) from `where`."""
    message, param, code = _parts(body)
    if status in (429, 503) or _DEAD.search(message):
        return EngineUnavailable(f"{where} cannot answer now: {message}", retry_after_s=_seconds(retry_after))
    if status == 404:
        return NotFound(f"{where}: {message}", param="model")
    if status in (401, 403):
        return EngineError(f"{where} refused the key ({message}); set {key_setting}")
    if status in (400, 413, 422):
        return _too_long(message) or InvalidRequest(
            message, param=param, code="context_length_exceeded" if code == "context_length_exceeded" else None
        )
    return EngineError(f"{where} answered {status}: {message}")


def _parts(body: bytes | dict[str, Any]) -> tuple[str, str | None, str | None]:
    """Message, field and code of an error body; the start of the text if it is none."""
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return body[:500].decode("utf-8", "replace").strip() or "(no message)", None, None
    error: Any = cast("dict[str, Any]", value).get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return str(error)[:500], None, None
    error = cast("dict[str, Any]", error)
    message = str(error.get("message") or error.get("detail") or error)[:MAX_SAID]
    param = error.get("param")
    if not isinstance(param, str):
        subject = _SUBJECT.match(message)
        param = subject[1] if subject else None
    else:
        param = param.removeprefix("body.")
    if reasons := _REASONS.findall(message):
        message = f"{param or 'the request'}: {reasons[0]}"
    return message, _FIELDS.get(param, param) if param else None, str(error.get("code"))


def _too_long(message: str) -> ContextTooLong | None:
    window, prompt = _WINDOW.search(message), _PROMPT.search(message)
    if window is None or prompt is None:
        return None
    return ContextTooLong(int(next(number for number in prompt.groups() if number)), int(window[1]))


def _seconds(retry_after: str | None) -> int:
    return max(1, int(retry_after)) if retry_after and _DIGITS.fullmatch(retry_after) else 5
