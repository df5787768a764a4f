"""Audits of a namespace's memories over HTTP, with word of how far they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from recollect.audit import Audit, AuditOptions, Mended, Tell, untold
from recollect.errors import RecollectError

PATH = "/v1/memories/audit"


class MemoryAudits:
    """`RecollectClient.audits`."""

    def __init__(self, http: httpx.AsyncClient, error_of: Callable[[httpx.Response], RecollectError]) -> None:
        self._http = http
        self._error_of = error_of

    async def audit(self, *, namespace: str | None = None, options: AuditOptions = AuditOptions(), tell: Tell = untold) -> Audit:
        """What is wrong with the memories of a namespace. Changes nothing. Raises InvalidRequest, RecollectError."""
        params = {**options.model_dump(), "stream": True, **({"namespace": namespace} if namespace else {})}
        with _reached(self._http):
            async with self._http.stream("GET", PATH, params=params) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise self._error_of(response)
                rest = b""
                async for piece in response.aiter_bytes():  # not by lines: texts may hold U+2028, which is one to httpx
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        if (found := _outcome(json.loads(line), tell)) is not None:
                            return found
        raise RecollectError(f"the audit of {self._http.base_url} broke off", code="broken_off")

    async def mend(self, *, namespace: str | None = None, duplicates: Sequence[str] = (), secrets: Sequence[str] = ()) -> Mended:
        """Delete exact duplicates and forget memories with secrets, by id; what is no such finding any more is left."""
        body = {"duplicates": list(duplicates), "secrets": list(secrets), **({"namespace": namespace} if namespace else {})}
        with _reached(self._http):
            response = await self._http.post(PATH, json=body, timeout=None)  # forgetting reads the whole log for each memory
        if response.is_error:
            raise self._error_of(response)
        found: dict[str, Any] = response.json()
        return Mended.model_validate({name: found[name] for name in Mended.model_fields})


@contextmanager
def _reached(http: httpx.AsyncClient) -> Generator[None]:
    try:
        yield
    except httpx.TransportError as exc:
        reason = str(exc) or type(exc).__name__
        raise RecollectError(f"no answer from {http.base_url} ({reason}); start the server: recollect serve", code="unreachable") from exc


def _outcome(line: dict[str, Any], tell: Tell) -> Audit | None:
    """The audit, if the line is the last one. Raises RecollectError for one that tells of an error."""
    if "error" in line:
        raise RecollectError(str(line["error"]["message"]), code=line["error"].get("code"))
    if "audit" in line:
        return Audit.model_validate({name: line["audit"][name] for name in Audit.model_fields})
    tell(line["part"], line["done"], line["total"])
    return None
