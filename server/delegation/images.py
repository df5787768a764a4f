"""Images that a tool is given: bytes of a file or a data URL, as the data URL that models take."""

from __future__ import annotations

import base64

from recollect.errors import InvalidRequest

MAX_BYTES = 10 * 2**20
_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


def data_url(image: bytes | str) -> str:
    """Raises InvalidRequest for what is no PNG, JPEG, GIF or WebP, or too large."""
    content = image if isinstance(image, bytes) else _decoded(image)
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"the image has more than {MAX_BYTES} bytes; make it smaller", param="image")
    kind = next((name for magic, name in _MAGIC.items() if content.startswith(magic)), None)
    if kind is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise InvalidRequest("image is no PNG, JPEG, GIF or WebP", param="image")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _decoded(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InvalidRequest("write a data URL as data:image/png;base64,...", param="image")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as exc:  # binascii.Error is one
        raise InvalidRequest(f"the data URL is not base64: {exc}", param="image") from exc
