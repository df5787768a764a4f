"""Promise 1: the key alone decides the tenant. Whatever a request claims besides, nothing of another tenant comes back, or is changed."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from recollect.keys import KeyRing
from recollect.memory import Namespace
from tests.api.conftest import BASE, Served, serving, until

SCALE = int(os.environ.get("RECOLLECT_TEST_SCALE", "1"))
TENANTS = [f"tenant{number}" for number in range(10)]
OPERATIONS = 500 * SCALE
MCP_SHARE = 0.3
NAMESPACES = ("user/default", "user/ada", "team/red")


class _Tenant:
    """A key, the tenant's secret words, and the ids of what it keeps."""

    def __init__(self, served: Served, name: str) -> None:
        self.name, self.canary = name, f"canary-{name}-zyx"
        self.headers = {"authorization": f"Bearer {KeyRing(served.home / 'keys').create(name, tenant=name)[1]}"}
        self.memories: list[str] = []
        self.trajectories: list[str] = []
        self.files: list[str] = []


async def _settle(served: Served, tenant: _Tenant) -> None:
    """Say the tenant's secret everywhere where something can be kept."""
    for namespace in NAMESPACES:
        body = {"text": f"The secret is {tenant.canary}.", "namespace": namespace}
        added = await served.http.post("/v1/memories", headers=tenant.headers, json=body)
        tenant.memories.append(added.json()["id"])
        asked = {"model": "memory", "messages": [{"role": "user", "content": f"Mine is {tenant.canary}."}]}
        answered = await served.http.post("/v1/chat/completions", headers=tenant.headers | {"x-memory-scope": namespace}, json=asked)
        tenant.trajectories.append(answered.json()["recollect"]["trajectory_id"])
        asked = {"model": "memory", "input": f"Mine is {tenant.canary}."}
        answered = await served.http.post("/v1/responses", headers=tenant.headers | {"x-memory-scope": namespace}, json=asked)
        tenant.trajectories.append(answered.json()["recollect"]["trajectory_id"])
    text = {"file": ("a.txt", f"In it stands {tenant.canary}.".encode(), "text/plain")}
    kept = await served.http.post("/v1/files", headers=tenant.headers, files=text, data={"purpose": "user_data"})
    tenant.files.append(kept.json()["id"])


def _forged(rng: random.Random, victim: _Tenant) -> tuple[dict[str, str], dict[str, Any], str]:
    """Headers, fields of a body and a URL prefix, each of which claims to be the victim in one of the ways that there are."""
    names = [victim.name, f"{victim.name}/default", f"tenant/{victim.name}", f"../{victim.name}", *NAMESPACES]
    claims = {name: rng.choice(names) for name in ("x-memory-scope", "x-openwebui-user-id", "x-session-id", "x-tenant", "x-forwarded-user")}
    headers = {name: value for name, value in claims.items() if rng.random() < 0.5}
    body = {name: rng.choice(names) for name in ("user", "safety_identifier") if rng.random() < 0.5}
    prefix = f"/ns/{rng.choice(NAMESPACES)}" if rng.random() < 0.3 else ""
    return headers, body, prefix


async def _ask(served: Served, rng: random.Random, caller: _Tenant, victim: _Tenant) -> httpx.Response:
    """One request of the caller that is after something of the victim."""
    headers, claimed, prefix = _forged(rng, victim)
    headers |= caller.headers
    memory, trajectory, file = rng.choice(victim.memories), rng.choice(victim.trajectories), rng.choice(victim.files)
    said = [{"role": "user", "content": f"What is the secret {victim.name}?"}]
    read = [{"role": "user", "content": [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": "What stands in it?"}]}]
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/v1/memories", None),
        ("GET", f"/v1/memories/{memory}", None),
        ("GET", f"/v1/memories/{memory}/history", None),
        ("GET", f"/v1/memories/{memory}/neighbours", None),
        ("GET", "/v1/memories/export", None),
        ("GET", "/v1/memories/stats", None),
        ("GET", "/v1/memories/audit", None),
        ("POST", "/v1/memories/search", {"query": victim.canary} | {k: v for k, v in claimed.items() if k == "user"}),
        ("PATCH", f"/v1/memories/{memory}", {"text": "gone"}),
        ("POST", f"/v1/memories/{memory}/undo", None),
        ("DELETE", f"/v1/memories/{memory}", None),
        ("POST", "/v1/memories/forget", {"id": memory}),
        ("POST", "/v1/chat/completions", {"model": "memory", "messages": said, **claimed}),
        ("POST", "/v1/chat/completions", {"model": "reader", "messages": read, **claimed}),
        ("POST", "/v1/messages", {"model": "memory", "max_tokens": 99, "messages": said, "metadata": {"user_id": victim.name}}),
        ("POST", "/v1/responses", {"model": "memory", "input": said, **claimed}),
        ("POST", "/v1/responses", {"model": "memory", "input": said, "previous_response_id": f"resp_{trajectory}", **claimed}),
        ("GET", f"/v1/responses/resp_{trajectory}", None),
        ("GET", f"/v1/responses/resp_{trajectory}/input_items", None),
        ("DELETE", f"/v1/responses/resp_{trajectory}", None),
        ("POST", "/v1/embeddings", {"model": "default", "input": "secret"}),
        ("POST", "/v1/feedback", {"id": trajectory, "correction": "gone"}),
        ("GET", "/v1/files", None),
        ("GET", f"/v1/files/{file}", None),
        ("GET", f"/v1/files/{file}/content", None),
        ("DELETE", f"/v1/files/{file}", None),
        ("GET", "/v1/admin/rerankers", None),
        ("GET", "/ready", None),
    ]
    method, path, body = rng.choice(requests)
    return await served.http.request(method, f"{prefix}{path}", headers=headers, json=body)


def _call(rng: random.Random, victim: _Tenant) -> tuple[str, dict[str, Any]]:
    """One call of a tool, or a resource, that is after something of the victim."""
    namespace = rng.choice([*NAMESPACES, victim.name, f"tenant/{victim.name}", None])
    memory, trajectory, file = rng.choice(victim.memories), rng.choice(victim.trajectories), rng.choice(victim.files)
    said = "What is the secret?"
    return rng.choice(
        [
            ("search_memories", {"query": "secret canary", "namespace": namespace}),
            ("get_memory", {"id": memory, "namespace": namespace}),
            ("update_memory", {"id": memory, "text": "gone", "namespace": namespace}),
            ("delete_memory", {"id": memory, "namespace": namespace}),
            ("ask_agent", {"question": said, "namespace": namespace, "session": victim.name}),
            ("send_feedback", {"trajectory_id": trajectory, "correction": "gone"}),
            ("get_status", {}),
            ("list_documents", {}),
            ("read_document", {"question": said, "file_id": file}),
            ("get_reading", {"reading_id": trajectory, "namespace": namespace, "wait_s": 0.0}),
            ("cancel_reading", {"reading_id": trajectory, "namespace": namespace}),
            ("delete_document", {"file_id": file}),
            ("recollect://memories/", {"id": memory}),
            ("recollect://profiles/", {"id": quote(namespace or "me", safe="")}),
        ]
    )


async def _told(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    try:
        if tool.startswith("recollect:"):
            return str(await client.read_resource(f"{tool}{arguments['id']}"))
        return str(await client.call_tool(tool, arguments))
    except MCPError as exc:
        return str(exc)


async def test_nothing_of_another_tenant_is_read_or_changed_whatever_a_request_claims(tmp_path: Path) -> None:
    rng = random.Random(SCALE)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(tmp_path, mcp={"all": True}))
        tenants = [_Tenant(served, name) for name in TENANTS]
        for tenant in tenants:
            await _settle(served, tenant)
        await until(lambda: len(served.service.chat.pending) == 0)
        clients = {tenant.name: await stack.enter_async_context(_mcp(served, tenant, "/all/mcp")) for tenant in tenants}
        statuses: set[int] = set()
        for _ in range(OPERATIONS):
            caller, victim = rng.sample(tenants, 2)
            if rng.random() < MCP_SHARE:
                tool, arguments = _call(rng, victim)
                told = await _told(clients[caller.name], tool, arguments)
                leaked = [one.canary for one in tenants if one is not caller and one.canary in told]
                assert not leaked, (tool, arguments, leaked)
                continue
            answer = await _ask(served, rng, caller, victim)
            # what the caller itself asked for may be repeated
            others = [one.canary for one in tenants if one is not caller and one.canary not in answer.request.content.decode()]
            leaked = [canary for canary in others if canary in answer.text]
            assert not leaked, (answer.request.method, answer.request.url, answer.status_code, leaked)
            assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.text)
            statuses.add(answer.status_code)
        assert {200, 404} <= statuses
        for tenant in tenants:
            await _is_whole(served, tenant)


async def _is_whole(served: Served, tenant: _Tenant) -> None:
    """What the tenant kept is there and says what it said, and its answers have no feedback of others."""
    for memory, namespace in zip(tenant.memories, NAMESPACES, strict=True):
        found = await served.http.get(f"/v1/memories/{memory}", headers=tenant.headers, params={"namespace": namespace})
        assert found.json()["text"] == f"The secret is {tenant.canary}."
    content = await served.http.get(f"/v1/files/{tenant.files[0]}/content", headers=tenant.headers)
    assert tenant.canary in content.text
    logged = {one.trajectory.id: one for one in await served.logged()}
    assert all(logged[one].trajectory.tenant == tenant.name and not logged[one].feedback for one in tenant.trajectories)
    assert (await served.service.memories.seq(Namespace.parse("user/ada", tenant=tenant.name))) > 0


@asynccontextmanager
async def _mcp(served: Served, tenant: _Tenant, path: str) -> AsyncGenerator[Client]:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=served.app), base_url=BASE, headers=tenant.headers)
    async with http, Client(streamable_http_client(f"{BASE}{path}", http_client=http, terminate_on_close=False)) as client:
        yield client


async def test_mcp_tools_reach_the_keys_tenant_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ours, theirs = _Tenant(served, "ours"), _Tenant(served, "theirs")
        await _settle(served, theirs)
        async with _mcp(served, ours, "/mcp") as client:
            for namespace in (*NAMESPACES, "theirs", "tenant/theirs", None):
                found = await client.call_tool("search_memories", {"query": "secret canary", "namespace": namespace})
                assert not found.is_error
                assert theirs.canary not in str(found)
                told = await client.call_tool("ask_agent", {"question": "What is the secret?", "namespace": namespace})
                assert theirs.canary not in str(told)
            gone = await client.call_tool("delete_memory", {"id": theirs.memories[0], "namespace": NAMESPACES[0]})
            assert gone.is_error
        await until(lambda: len(served.service.chat.pending) == 0)
        await _is_whole(served, theirs)


async def test_what_the_local_tenant_taught_answers_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        pins = served.service.adapters.pin(["memory"], "acme")
        assert {alias: policy.name for alias, policy in pins.policies.items()} == {"memory": served.engine.base}
        pins.release()
