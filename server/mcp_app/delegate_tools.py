"""The tools that hand work on: a thought, a look, a task, and workers that go on by themselves."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from server.delegation.plan import Effort
from server.delegation.routing import Wish
from server.identity import Identity
from server.mcp_app.calls import caller, namespace_of, told
from server.mcp_app.shapes import ProviderModel, Providers, Thoughts, WorkerList, WorkerState
from server.mcp_app.strict import hints, tool_of
from server.service import Service
from server.service.delegation import Delegation, Thought
from server.service.worker_files import Worker

MAX_TASK = 200_000
MAX_WAIT_S = 50.0
"""Under the minute after which clients give a call up."""
MAX_LISTED = 50
Task = Annotated[str, Field(min_length=1, max_length=MAX_TASK, description="All that must be known to do it.")]
Use = Annotated[str, Field(description="provider or provider/model; empty: by rules.")]
TaskType = Annotated[str, Field(description="For the rules: code, writing, ...")]
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
Folder = Annotated[str, Field(description="Where codex works.")]


def delegate_tools(service: Service) -> list[Tool]:
    """They need a plan: without one there is no such profile."""
    delegation = service.delegation
    if delegation is None:
        return []

    async def think(
        task: Task,
        ctx: Context[Any, Any],
        use: Use = "",
        task_type: TaskType = "",
        effort: Effort | None = None,
        folder: Folder = "",
    ) -> Thoughts:
        """Let another model answer one question, without tools."""
        async with told(ctx, "chat"):
            wish = Wish("think", len(task), task_type, effort, use)
            return _thoughts(await delegation.think(_asker(ctx), wish, task, folder or None))

    async def see(
        image: Annotated[str, Field(description="A file's path, or a data: URL.")],
        ctx: Context[Any, Any],
        question: Annotated[str, Field(min_length=1)] = "What is to be seen?",
        use: Use = "",
    ) -> Thoughts:
        """Let a model with eyes tell what is in an image."""
        async with told(ctx, "chat"):
            return _thoughts(await delegation.see(_asker(ctx), Wish("see", len(question), "see", None, use), image, question))

    async def agent_task(
        task: Task,
        ctx: Context[Any, Any],
        use: Use = "",
        task_type: TaskType = "",
        type: Annotated[str, Field(description="One of providers' types.")] = "",
        folder: Folder = "",
        wait_s: Wait = 45.0,
    ) -> WorkerState:
        """Let a worker do a task with its own tools (memory, files). If it is still running, call wait_agent."""
        async with told(ctx, "chat"):
            asker = _asker(ctx)
            wish = Wish("agent_task", len(task), task_type, None, use)
            worker = await delegation.spawn(asker, wish, description=task[:80], kind=type, task=task or None, folder=folder or None)
            return _state(await delegation.wait(asker, worker.id, wait_s))

    async def providers(ctx: Context[Any, Any]) -> Providers:
        """Who can be asked: models, what they can do, whether they are well."""
        async with told(ctx, "chat"):
            return await _providers(service, delegation, _asker(ctx))

    async def spawn_agent(
        description: Annotated[str, Field(min_length=1, max_length=200)],
        ctx: Context[Any, Any],
        task: Annotated[str, Field(max_length=MAX_TASK, description="Its first task.")] = "",
        use: Use = "",
        task_type: TaskType = "",
        type: str = "",
        effort: Effort | None = None,
        folder: Folder = "",
    ) -> WorkerState:
        """Make a worker that works while you go on, and keeps its conversation, even through a restart."""
        async with told(ctx, "chat"):
            wish = Wish("spawn_agent", len(task), task_type, effort, use)
            spawned = delegation.spawn(_asker(ctx), wish, description=description, kind=type, task=task or None, folder=folder or None)
            return _state(await spawned)

    async def send_agent_input(
        worker_id: str,
        ctx: Context[Any, Any],
        text: Annotated[str, Field(max_length=MAX_TASK, description="Empty: go on, after an interruption.")] = "",
    ) -> WorkerState:
        """Tell a worker what to do next."""
        async with told(ctx, "chat"):
            return _state(await delegation.send(_asker(ctx), worker_id, text))

    async def wait_agent(worker_id: str, ctx: Context[Any, Any], wait_s: Wait = 30.0) -> WorkerState:
        """A worker's answer, or its state: running, done, failed, interrupted, closed."""
        async with told(ctx, "chat"):
            return _state(await delegation.wait(_asker(ctx), worker_id, wait_s))

    async def list_agents(ctx: Context[Any, Any]) -> WorkerList:
        """Your workers, newest first."""
        async with told(ctx, "chat"):
            found = await delegation.listed(_asker(ctx))
            return WorkerList(workers=[_state(worker, whole=False) for worker in found[:MAX_LISTED]])

    async def close_agent(worker_id: str, ctx: Context[Any, Any]) -> WorkerState:
        """Stop a worker for good."""
        async with told(ctx, "chat"):
            return _state(await delegation.close_worker(_asker(ctx), worker_id))

    return [
        tool_of(think, hints("Think", open_world=True)),
        tool_of(see, hints("See", open_world=True)),
        tool_of(agent_task, hints("Do a task", open_world=True)),
        tool_of(providers, hints("Providers", read_only=True)),
        tool_of(spawn_agent, hints("Spawn a worker", open_world=True)),
        tool_of(send_agent_input, hints("Tell a worker", open_world=True)),
        tool_of(wait_agent, hints("Wait for a worker", read_only=True)),
        tool_of(list_agents, hints("List workers", read_only=True)),
        tool_of(close_agent, hints("Close a worker", destructive=True, idempotent=True)),
    ]


def _asker(ctx: Context[Any, Any]) -> Identity:
    return Identity(namespace_of(ctx, None), caller(ctx).key_id)


async def _providers(service: Service, delegation: Delegation, asker: Identity) -> Providers:
    states = await delegation.states(asker, service.adapters.settled)
    found: list[ProviderModel] = []
    for state in states:
        for name, model in delegation.plan.providers[state.name].models.items():
            ready = state.ready and name in state.models and not delegation.rests(state.name, name)
            found.append(
                ProviderModel(
                    model=f"{state.name}/{name}", kind=state.kind, ready=ready, detail=state.detail, vision=model.vision, cost=model.cost
                )
            )
    return Providers(allow=list(delegation.plan.allow), models=found, types=list(delegation.plan.types))


def _thoughts(thought: Thought) -> Thoughts:
    return Thoughts(answer=thought.answer, model=thought.target, trajectory_id=thought.trajectory_id, failed=list(thought.failed))


def _state(worker: Worker, *, whole: bool = True) -> WorkerState:
    return WorkerState(
        worker_id=worker.id,
        state=worker.state,
        description=worker.description,
        model=worker.target,
        answer=worker.answer if whole else "",
        error=worker.error,
        trajectory_id=worker.trajectories[-1] if worker.trajectories else "",
    )
