"""The parts of a chat message's content: texts, and files that are named or come along."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.messages import Message, Role
from server.routes.wire import Wire

_IMAGE = re.compile(r"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/]+=*\Z")
TEXT_KINDS = ("text/", "application/json")


class FilePart(Wire):
    """A file: one that was uploaded, or the text itself, in base64 or as a data URL."""

    file_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    file_data: str | None = None
    filename: str | None = None


class ImagePart(Wire):
    """An image, as a data URL."""

    url: str
    detail: str | None = None


class ContentPart(Wire):
    """A part of a message's content. `text`, `file` and `image_url` are understood; the others are known so that they can be named."""

    type: str
    text: str | None = None
    image_url: ImagePart | None = None
    input_audio: Any = None
    file: FilePart | None = None
    refusal: Any = None


def message_of(part: ContentPart, role: Role, where: str) -> Message:
    """One part as a message of its own. Raises InvalidRequest that names `where`, the part's place in the body."""
    if part.type == "file":
        if role != "user":
            raise InvalidRequest(f"{where} is a file; only a user's message may have one", param=where, code="unsupported_content_part")
        return text_of_file(part.file, f"{where}.file")
    if part.type == "image_url":
        if part.image_url is None:
            raise InvalidRequest(f"{where}.image_url is required", param=f"{where}.image_url", code="missing_required_parameter")
        return image_of(part.image_url.url, role, f"{where}.image_url.url")
    if part.type != "text":
        raise InvalidRequest(
            f"{where} is of type {part.type!r}; this server reads parts of type 'text', 'image_url' and 'file' alone",
            param=where,
            code="unsupported_content_part",
        )
    if part.text is None:
        raise InvalidRequest(f"{where}.text is required", param=f"{where}.text", code="missing_required_parameter")
    return Message(role=role, content=part.text)


def image_of(url: str, role: Role, where: str) -> Message:
    """An image as a message of its own. Raises InvalidRequest for any URL but a data URL: nothing is fetched on a client's word."""
    if role != "user":
        raise InvalidRequest(f"{where} is an image; only a user's message may have one", param=where, code="unsupported_content_part")
    if not _IMAGE.match(url):
        raise InvalidRequest(f"{where} is no data URL: send the image as data:image/png;base64,...", param=where, code="invalid_value")
    return Message(role=role, content="", image=url)


def results_first(messages: Sequence[Message]) -> list[Message]:
    """The same, where results of tools stand together behind the calls: an image that one of them brought comes after all."""
    ordered: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message.role not in ("tool", "user"):
            ordered += waiting
            waiting = []
        if message.role == "user":
            waiting.append(message)
        else:
            ordered.append(message)
    return ordered + waiting


def text_of_file(file: FilePart | None, where: str) -> Message:
    """A file as a message of its own: one that was uploaded, or the text itself. Raises InvalidRequest."""
    if file is None or (file.file_id is None) == (file.file_data is None):
        raise InvalidRequest(f"{where} needs file_id or file_data, one of them", param=where, code="missing_required_parameter")
    if file.file_id is not None:
        return Message(role="user", content="", file_id=file.file_id)
    return Message(role="user", content=_decoded(file.file_data or "", f"{where}.file_data"))


def _decoded(data: str, where: str) -> str:
    """The text of base64 with or without `data:text/plain;base64,` before it."""
    head, comma, payload = data.rpartition(",")
    kind = head.removeprefix("data:").partition(";")[0]
    if comma and not (head.startswith("data:") and head.endswith(";base64") and (not kind or kind.startswith(TEXT_KINDS))):
        raise InvalidRequest(f"{where} is no text in base64; write data:text/plain;base64,... ", param=where, code="unsupported_file_type")
    try:
        return base64.b64decode(payload, validate=True).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        said = f"{where} is not UTF-8: byte {exc.start} (the first is 0) is 0x{exc.object[exc.start]:02x}; only text is read"
        raise InvalidRequest(said, param=where, code="invalid_encoding") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{where} is not base64; encode the text as base64", param=where, code="invalid_value") from exc
