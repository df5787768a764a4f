"""Audits of a namespace's memories over HTTP, with word of how far they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clients.connection import Connection, given
from recollect.audit import Audit, AuditOptions, Mended, Tell, untold
from recollect.errors import RecollectError

PATH = "/v1/memories/audit"


class AuditCalls(Connection):
    """The calls of `/v1/memories/audit`."""

    async def audit(self, *, namespace: str | None = None, options: AuditOptions = AuditOptions(), tell: Tell = untold) -> Audit:
        """What is wrong with the memories of a namespace. Changes nothing. Raises InvalidRequest, RecollectError."""
        params = {**options.model_dump(), "stream": True, **given(namespace=namespace)}
        async with self._streamed(PATH, params) as response:
            rest = b""
            async for piece in response.aiter_bytes():  # not by lines: texts may hold U+2028, which is one to httpx
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if (found := _outcome(json.loads(line), tell)) is not None:
                        return found
        raise RecollectError(f"the audit of {self._base_url} broke off", code="broken_off")

    async def mend(self, *, namespace: str | None = None, duplicates: Sequence[str] = (), secrets: Sequence[str] = ()) -> Mended:
        """Delete exact duplicates and forget memories with secrets, by id; what is no such finding any more is left."""
        body = {"duplicates": list(duplicates), "secrets": list(secrets), **given(namespace=namespace)}
        found = await self._call("POST", PATH, body=body, unhurried=True)  # forgetting reads the whole log for each memory
        return Mended.model_validate({name: found[name] for name in Mended.model_fields})


def _outcome(line: dict[str, Any], tell: Tell) -> Audit | None:
    """The audit, if the line is the last one. Raises RecollectError for one that tells of an error."""
    if "error" in line:
        raise RecollectError(str(line["error"]["message"]), code=line["error"].get("code"))
    if "audit" in line:
        return Audit.model_validate({name: line["audit"][name] for name in Audit.model_fields})
    tell(line["part"], line["done"], line["total"])
    return None
