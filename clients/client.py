"""The async Python client of a running server: memories, feedback, adapters, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from clients.audit import AuditCalls
from clients.memory_calls import MemoryCalls
from recollect.canary import Figures
from recollect.model import Record
from recollect.trajectory import Feedback


class AdapterVersion(Record):
    """One published version. `refused` says why it is not served although it was made current, `retired` why it never will be."""

    version: int
    name: str
    loaded: bool = False
    in_flight: int = 0
    refused: str | None = None
    retired: str | None = None


class CanaryState(Record):
    """A version that answers a share of the sessions until it is decided, or until `until`. `answers`: it is loaded, and does."""

    version: int
    name: str
    share: float
    since: datetime
    until: datetime
    answers: bool = False
    figures: Figures = Figures()


class AdapterState(Record):
    """A policy, the version that its pointer names (None: the base model), what answers now if anything does, all versions."""

    policy: str
    pool: str
    current: int | None = None
    serving: str | None = None
    versions: list[AdapterVersion] = Field(default_factory=list[AdapterVersion])
    canary: CanaryState | None = None


class Usage(Record):
    """What one key of a tenant used on one day in UTC; without `key_id` it was the home's owner, or anybody where there are no keys."""

    day: str
    tenant: str
    key_id: str | None = None
    key_name: str | None = None
    requests: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted_tokens: int = 0


class RecollectClient(MemoryCalls, AuditCalls):
    """Calls a server's API. Errors of the server are raised as the types of `recollect.errors`. Use it as `async with`."""

    async def chat(self, model: str, messages: Sequence[Mapping[str, str]], **fields: object) -> dict[str, Any]:
        """A chat completion, whole. `fields` go into the body as they are. Raises NotFound for an unknown model."""
        return await self._call("POST", "/v1/chat/completions", body={"model": model, "messages": list(messages), **fields}, unhurried=True)

    async def send_feedback(self, feedback: Feedback) -> str:
        """Say what you think of an answer; returns the trajectory's id once that is durable. Raises NotFound."""
        found = await self._call("POST", "/v1/feedback", body=feedback.model_dump(mode="json", exclude_none=True))
        return found["trajectory_id"]

    async def adapters(self) -> list[AdapterState]:
        """Every policy with its versions."""
        return _states(await self._call("GET", "/v1/admin/adapters"))

    async def promote(self, policy: str, version: int | None) -> list[AdapterState]:
        """Answer with this version from now on; None: with the base model. Raises NotFound, Conflict."""
        return _states(await self._call("POST", "/v1/admin/adapters/promote", body={"policy": policy, "version": version}))

    async def roll_back(self, policy: str) -> list[AdapterState]:
        """Go back to the parent of the current version. Raises NotFound, Conflict."""
        return _states(await self._call("POST", "/v1/admin/adapters/rollback", body={"policy": policy}))

    async def refresh_adapters(self) -> list[AdapterState]:
        """Have the registry read now, and refused versions tried again."""
        return _states(await self._call("POST", "/v1/admin/adapters/refresh"))

    async def usage(self, days: int) -> list[Usage]:
        """Who used how much in the last so many days, today included. Raises Forbidden without the scope `admin`."""
        found = await self._call("GET", "/v1/admin/usage", params={"days": str(days)})
        return [Usage.model_validate(item) for item in found["data"]]

    async def status(self) -> dict[str, Any]:
        """What `/ready` says: `ready`, and what is missing. A server that is not ready is no error here."""
        return await self._call("GET", "/ready", accepted=(200, 503))


def _states(found: dict[str, Any]) -> list[AdapterState]:
    return [AdapterState.model_validate(item) for item in found["data"]]
