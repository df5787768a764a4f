"""The agent that does a delegated task: a model that calls tools until it answers (ReAct, arXiv 2210.03629), within a budget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recollect.messages import Message, last_user_text
from recollect.policy import Policy
from recollect.tools import ToolCall, Tools
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.fence import Fence
from server.agents.prompts import load_prompt
from server.agents.retriever import Recalled, Retriever
from server.delegation import text_calls
from server.delegation.limits import RetryGuard, Stopped
from server.delegation.plan import Budget
from server.delegation.toolbox import Toolbox, write_memory
from server.engines.base import Completion

ROLE = "worker"
PROMPT = load_prompt(str(Path(__file__).parent / "prompts"), "delegate")
FENCE = Fence.of(PROMPT.model_copy(update={"system": None}))
RECALLED, MEMORY_CHARS = 5, 4_000
MAX_CALLS = 16
"""Of one answer."""
TASK_CHARS, ANSWER_CHARS = 500, 2_000
"""Of a task and its answer, in the memory that is kept of them."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """One model of one provider, with tools or, for a thought, without. A task's messages are the whole of its conversation."""

    target: str
    """`provider/model`."""
    alias: str | None
    """What the server's own model is called by; None for another's."""
    toolbox: Toolbox | None
    calls: Literal["native", "text"]
    budget: Budget
    tokens_left: int
    """Of the worker's budget."""
    advanced: Callable[[Sequence[Message]], Awaitable[None]]
    """Told of the conversation after each round of tools."""
    instructions: str = ""

    @property
    def id(self) -> str:
        """As trajectories name it."""
        return f"delegate/{self.target}"

    @property
    def aliases(self) -> frozenset[str]:
        """Those of the server's own policies that are pinned for it."""
        return frozenset({self.alias} if self.alias else ())

    @property
    def config_hash(self) -> str:
        """sha256 of what decides how it answers."""
        offered = [tool.model_dump() for tool in self.toolbox.offered] if self.toolbox else []
        settings = {"tools": offered, "calls": self.calls, "instructions": self.instructions}
        return config_hash(self.id, settings, {"delegate": PROMPT} if self.toolbox else {})

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer the last message. Raises Stopped when the budget is spent or the same call comes again and again."""
        answer = await self._answer(request, ctx)
        yield StreamEvent(text=answer, finish_reason="stop", usage=ctx.recorder.usage)

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: what a client's model hands on is not the user's own word."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Keep what was asked and found, so that a later worker need not find it again."""
        if self.toolbox is not None:
            await keep_finding(request, answer, ctx)

    async def _answer(self, request: AgentRequest, ctx: AgentContext) -> str:
        conversation = list(request.messages)
        recalled = await self._recalled(request, ctx)
        guard = RetryGuard()
        for _ in range(self.budget.steps):
            completion = await self._call(conversation, recalled, request, ctx)
            calls = self._calls(completion)
            if not calls:
                if not completion.text.strip():
                    raise Stopped(f"{self.target} answered nothing", reason="nothing")
                return _whole(completion.text)
            self._check_tokens(ctx)
            if len(calls) > MAX_CALLS:
                raise Stopped(f"{self.target} made {len(calls)} calls at once; {MAX_CALLS} are done", reason="steps")
            conversation.append(Message(role="assistant", content=_whole(completion.text), tool_calls=tuple(calls)))
            for call in calls:
                guard.check(call)
            for call in calls:
                result = FENCE.defuse(await self._result(call, ctx))
                conversation.append(Message(role="tool", content=result, tool_call_id=call.id))
            await self.advanced(conversation)
        raise Stopped(
            f"{self.target} made {self.budget.steps} calls without an answer; split the task or raise budget.steps", reason="steps"
        )

    async def _result(self, call: ToolCall, ctx: AgentContext) -> str:
        assert self.toolbox is not None
        return await self.toolbox.run(call, ctx)

    def _check_tokens(self, ctx: AgentContext) -> None:
        if ctx.recorder.usage.total_tokens >= self.tokens_left:
            raise Stopped(f"the worker has used its {self.budget.tokens} tokens; begin another or raise budget.tokens", reason="tokens")

    async def _recalled(self, request: AgentRequest, ctx: AgentContext) -> list[Recalled]:
        if self.toolbox is None or not request.use_memory:
            return []
        return await Retriever(RECALLED, MEMORY_CHARS).search(last_user_text(request.messages), ctx)

    def _prompt(self, conversation: Sequence[Message], recalled: Sequence[Recalled], tools: Tools | None) -> list[Message]:
        """The conversation behind the instructions, its last task with what is remembered."""
        if self.toolbox is None:
            return list(conversation)
        system = [PROMPT.system or "", self.instructions]
        asked = list(conversation)
        if recalled:
            place = max(i for i, message in enumerate(asked) if message.role == "user")
            shown = "\n".join(f"- {FENCE.defuse(memory.text)}" for memory in recalled)
            asked[place] = PROMPT.render(memories=shown, task=asked[place].content)[-1]
        if tools is not None and self.calls == "text":
            system.append(text_calls.instructions(tools.offered))
            asked = text_calls.plain(asked)
        return [Message(role="system", content="\n\n".join(part for part in system if part)), *asked]

    async def _call(
        self, conversation: Sequence[Message], recalled: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> Completion:
        tools = Tools(offered=self.toolbox.offered) if self.toolbox and self.toolbox.offered else None
        native = tools if self.calls == "native" else None
        messages = self._prompt(conversation, recalled, tools)
        policy = ctx.policies[self.alias] if self.alias else Policy(base=ctx.engine.base)
        chunks = ctx.recorder.call(
            ctx.engine.chat(messages, policy=policy, sampling=request.sampling, salt=ctx.salt, tools=native),
            role=ROLE,
            policy=policy,
            alias=self.alias,
            sampling=request.sampling,
            messages=messages,
            retrieved=[memory.ref for memory in recalled],
            tools=native,
        )
        completion = Completion()
        async for chunk in chunks:
            completion.add(chunk)
        return completion

    def _calls(self, completion: Completion) -> list[ToolCall]:
        if self.toolbox is None:
            return []
        if completion.calls or self.calls == "native":
            found = completion.calls
        else:
            read = text_calls.call_in(completion.text, self.toolbox.offered)
            found = [read] if read else []
        return [ToolCall(id=_whole(call.id), name=_whole(call.name), arguments=_whole(call.arguments)) for call in found]


def _whole(text: str) -> str:
    """Half of a surrogate pair, which some models write, cannot be kept."""
    return text.encode(errors="replace").decode()


async def keep_finding(request: AgentRequest, answer: str, ctx: AgentContext) -> None:
    """Remember what was asked and found, each cut to a few lines."""
    task = last_user_text(request.messages).strip()[:TASK_CHARS]
    await write_memory(f"Asked: {task}\nFound: {answer.strip()[:ANSWER_CHARS]}", ctx, kind="episodic")
