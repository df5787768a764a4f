"""What the tests of the agents share: a scripted engine, a context around it and a store, an answer gathered from its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from recollect.memory import MemoryWrite, Namespace
from recollect.messages import Message, user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.stores import MemoryStore
from recollect.trajectory import Usage
from server.agents.base import Agent, AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.agents.registry import build_agent
from server.engines import toy_tokens
from server.engines.base import Engine, Sampling
from server.engines.scripted import ScriptedEngine

HOME = Namespace.parse("user/ada")
POLICY = Policy(base="scripted", adapter="memory", version=3)
MANAGER = Policy(base="scripted", adapter="memory-manager", version=5)
ANSWER_AGENT = Policy(base="scripted", adapter="memory-answer", version=2)
POLICIES = {"memory": POLICY, "memory-manager": MANAGER, "memory-answer": ANSWER_AGENT}
END = toy_tokens.END_ID


def agent(name: str, pack: str = "compact", **settings: Any) -> Agent:
    return build_agent(name, AgentSettings(**settings), pack)


def engine(says: Callable[[str], str], **options: Any) -> ScriptedEngine:
    """An engine that says what `says` returns for the text of a prompt."""
    return ScriptedEngine(
        answer=lambda call: says(call.prompt), adapters={policy.name: "loaded" for policy in POLICIES.values()}, **options
    )


def context(engine: Engine, store: MemoryStore | None = None, trajectory_id: str = "t1") -> AgentContext:
    return AgentContext(
        engine=engine,
        store=cast(MemoryStore, store),
        namespace=HOME,
        policies=POLICIES,
        recorder=Recorder(trajectory_id=trajectory_id),
        session="monday",
    )


def request(*messages: Message | str, stream: bool = False, use_memory: bool = True, **sampling: Any) -> AgentRequest:
    said = tuple(user(m) if isinstance(m, str) else m for m in messages)
    return AgentRequest(said, Sampling(**sampling), stream=stream, use_memory=use_memory)


async def ask(agent: Agent, request: AgentRequest, ctx: AgentContext) -> tuple[str, list[str], Usage | None]:
    """The first choice's text, the pieces it came in, and the last usage."""
    pieces: list[str] = []
    usage: Usage | None = None
    async for event in agent.run(request, ctx):
        usage = event.usage or usage
        if event.index == 0 and event.text:
            pieces.append(event.text)
    return "".join(pieces), pieces, usage


async def add(store: MemoryStore, *texts: str, kind: str = "semantic", prefix: str = "m") -> list[str]:
    """Add each text in a commit of its own, in this order."""
    ids = []
    for number, text in enumerate(texts, start=1):
        ids.append(f"{prefix}{number}")
        await store.apply(HOME, [MemoryWrite.model_validate({"op": "add", "id": ids[-1], "text": text, "kind": kind})])
    return ids
