"""A multipart body that is read as it comes: the part `file` goes to the disk, the others are short fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from recollect.errors import InvalidRequest
from server.service.files import Upload

AT_ONCE = 2**20
"""Bytes that are handed to a thread, and so held, at once."""
MAX_FIELD = 1_024
"""Bytes of a field."""
HOW = "send multipart/form-data with the parts file and purpose"


class Form:
    """The parts of one upload. `fields` are complete, and `filename` known, after `read`."""

    def __init__(self, content_type: str, upload: Upload) -> None:
        """Raises InvalidRequest for a body that is no multipart form."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise InvalidRequest(f"the body is no form; {HOW}", param="Content-Type", code="invalid_content_type")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._upload = upload
        self._name = ""
        self._header = b""
        self._disposition = b""
        self._value = b""
        self._field = bytearray()
        self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_named,
                "on_header_value": self._header_says,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    async def read(self, body: AsyncIterable[bytes]) -> None:
        """Read the body to its end. Raises InvalidRequest, and what the upload raises."""
        held = bytearray()
        with suppress(ClientDisconnect):
            async for piece in body:
                held += piece
                if len(held) >= AT_ONCE:
                    await self._feed(bytes(held))
                    held.clear()
            await self._feed(bytes(held))
        if not self._ended:
            raise InvalidRequest(f"the form breaks off before its end; {HOW}", param="file", code="invalid_form")
        if self.filename is None:
            raise InvalidRequest(f"file is required; {HOW}", param="file", code="missing_required_parameter")

    async def _feed(self, data: bytes) -> None:
        try:
            await asyncio.to_thread(self._parser.write, data)
        except FormParserError as exc:
            raise InvalidRequest(f"the form cannot be read: {exc}; {HOW}", param="file", code="invalid_form") from exc

    def _part_begins(self) -> None:
        self._name, self._disposition = "", b""
        self._field.clear()

    def _header_named(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_says(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name in self.fields or (self._name == "file" and self.filename is not None):
            raise InvalidRequest(f"{self._name} is sent twice; send it once", param=self._name)
        if self._name == "file":
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or "file.txt"
        elif self._name != "purpose":
            raise InvalidRequest(f"unknown field {self._name!r}; {HOW}", param=self._name, code="unknown_parameter")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._upload.write(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > MAX_FIELD:
            raise InvalidRequest(f"{self._name} has more than {MAX_FIELD} bytes; shorten it", param=self._name)

    def _part_ends(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True
