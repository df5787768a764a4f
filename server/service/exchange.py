"""One answer that is being given: the agent runs in its own task, so that a client's leaving never cuts off the record of it.

Order of events: the agent's answer; the user's turn committed (`acknowledge`) and the trajectory appended; only then the end
of the answer goes out; only after that `remember` runs, and its steps follow as an event of their own. From the agent's last
event to the trajectory's record nothing is cut off any more: a turn that is kept has its record, and the record tells the turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recollect.errors import AnswerTooLong, EngineUnavailable, NotFound, RecollectError
from recollect.events import EventKind, LogEvent
from recollect.log import LogWriter
from recollect.memory import Namespace
from recollect.policy import Policy
from recollect.tools import ToolCall
from recollect.trajectory import MemoryRef, Step, Trajectory, Usage
from server import tracing
from server.adapters import Pins
from server.agents.base import Agent, AgentContext, AgentRequest, StreamEvent
from server.agents.rmm.reranker import ROLE as RERANKER
from server.engines.base import add_pieces
from server.service.ids import new_id
from server.service.pending import PendingWrites
from server.service.spending import Spending, Spent, by_role

logger = logging.getLogger(__name__)

_PAUSE = object()
"""No event is there yet."""
CLIENT_GONE = "ClientDisconnected: the client went away before the end of the answer"


class Exchange:
    """An answer in progress. Iterate over it for the events; after the last one everything promised is durable."""

    def __init__(
        self,
        *,
        agent: Agent,
        request: AgentRequest,
        context: AgentContext,
        session: str,
        instructed: bool,
        asked: Mapping[str, Any],
        seq_before: int | None,
        log: LogWriter,
        pending: PendingWrites,
        pins: Pins,
        adapters_lost: Callable[[], None],
        spending: Spending,
        key_id: str | None = None,
    ) -> None:
        """`key_id`: of the key that asked, whose usage its model calls are."""
        self.trajectory_id = context.recorder.trajectory_id
        self.agent = agent
        self.logged = False
        self._request = request
        self._context = context
        self._session = session
        self._instructed = instructed
        self._asked = asked
        self._seq_before = seq_before
        self._log = log
        self._pending = pending
        self._pins = pins
        self._adapters_lost = adapters_lost
        self._spending = spending
        self._key_id = key_id
        self._events: asyncio.Queue[StreamEvent | BaseException | None] = asyncio.Queue()
        self._first = asyncio.Event()
        self._failure: BaseException | None = None
        self._failure_text: str | None = None
        self._reason: RecollectError | None = None
        self._entered = False
        self._answered = False
        self._begun_at = time.perf_counter()
        self.first_s: float | None = None
        """Seconds to the first event; None while there is none."""
        self._delivered = asyncio.Event()
        self._answers: dict[int, str] = {}
        self._calls: list[ToolCall] = []
        self._finish: str | None = None
        self._reasoning = ""
        self._characters = 0
        self.task: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] = lambda: None

    @property
    def policies(self) -> dict[str, str]:
        """By alias, the name of the policy that this answer is pinned to; the base model by the alias `base`."""
        pinned = self._context.policies or {"base": Policy(base=self._context.engine.base)}
        return {alias: policy.name for alias, policy in sorted(pinned.items())}

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was begun."""
        return time.perf_counter() - self._begun_at

    @property
    def namespace(self) -> Namespace:
        """Whose memory it reads and writes."""
        return self._context.namespace

    @property
    def of_engine(self) -> bool:
        """Whether it calls this server's engine."""
        return self._pins.of_engine

    @property
    def usage(self) -> Usage:
        """Tokens of all model calls of the answer."""
        return self._context.recorder.usage

    @property
    def steps(self) -> Sequence[Step]:
        """What it did so far."""
        return self._context.recorder.steps

    @property
    def spent(self) -> dict[str, Spent]:
        """What its model calls cost so far, by role."""
        return by_role(self._context.recorder.steps)

    @property
    def memories(self) -> list[MemoryRef]:
        """What was retrieved, each memory once, in the order in which the prompt numbers them."""
        return shown_in(self._context.recorder.steps)

    @property
    def failure(self) -> str | None:
        """What it failed with, as the log tells it; None if it did not, or goes on."""
        return self._failure_text

    @property
    def answer(self) -> str:
        """The text of the first choice so far."""
        return self._answers.get(0, "")

    @property
    def characters(self) -> int:
        """Of all that was given so far: every choice, what was thought, and what tools were called with."""
        return self._characters

    def on_end(self, call: Callable[[], None]) -> None:
        """Call this when the answer has ended, one way or another."""
        self._on_end = call

    def start(self) -> None:
        """Run the agent."""
        tracing.mark("recollect.trajectory.id", self.trajectory_id)
        self.task = asyncio.create_task(self._run())

    async def begun(self) -> None:
        """Wait for the first event. Raises what the agent failed with before it."""
        await self._first.wait()
        if self._failure is not None and self._events.qsize() == 1:
            raise self._failure

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        """The events. Raises what the agent, the store or the log failed with. Ends after everything promised is durable."""
        async for events in self.batches():
            for event in events:
                yield event

    async def batches(self) -> AsyncIterator[list[StreamEvent]]:
        """The same, those together that came together: what is sent in one piece costs one write to the client instead of many."""
        batch: list[StreamEvent] = []
        while True:
            event = await self._events.get() if not batch or not self._events.empty() else _PAUSE
            if isinstance(event, StreamEvent):
                batch.append(event)
                continue
            if batch:
                yield batch
                batch = []
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event

    def abandon(self) -> None:
        """The client is gone: stop generating. The trajectory is logged with that error. A whole answer is kept as if it had been read."""
        self._cancel(RecollectError(CLIENT_GONE))

    def stop(self) -> None:
        """The server ends before the answer did: stop generating, and tell the client. A whole answer still goes out."""
        self._cancel(EngineUnavailable("the server was stopped before the end of the answer; ask again", retry_after_s=5))

    def end(self, reason: RecollectError) -> None:
        """It may not go on: stop generating; whoever listens is told the reason. A whole answer is kept."""
        self._cancel(reason)

    def overrun(self, limit_s: float) -> None:
        """It has taken as long as an answer may: stop generating, and tell the client. A whole answer still goes out."""
        self._cancel(AnswerTooLong(f"the answer was ended after {limit_s:g} s (server.max_stream_s); ask for less at once, or raise it"))

    def _cancel(self, reason: RecollectError) -> None:
        if self.task is not None and not self.task.done() and self._reason is None and not self._answered:
            self._reason = reason
            if self._entered:  # else it ends by the reason when it gets there: a task that is cancelled before would tidy up nothing
                self.task.cancel()
        self._delivered.set()

    def delivered(self) -> None:
        """The answer has gone out: what the agent remembers afterwards may begin."""
        self._delivered.set()

    async def _run(self) -> None:
        remembers = False
        self._entered = True
        try:
            if self._reason is not None:
                raise asyncio.CancelledError
            with tracing.span(f"invoke_agent {self.agent.id}", self._attributes("invoke_agent")) as span:
                await self._answer()
            remembers = self._request.use_memory
            if remembers:
                self._pending.add(self._context.namespace, self._remember(span))
            self._put(None)
        except asyncio.CancelledError:
            reason = self._reason or RecollectError(CLIENT_GONE)
            await self._log_failure(reason.message if reason.message == CLIENT_GONE else _reason(reason))
            self._put(reason)
        except RecollectError as exc:
            await self._log_failure(f"{type(exc).__name__}: {exc.message}")
            self._put(self._seen(exc))
        except Exception as exc:  # noqa: BLE001
            # The boundary of a request: what agents raise beyond our own errors is a defect, told to the client as such.
            logger.error("trajectory %s failed: %s", self.trajectory_id, defect(exc))
            await self._log_failure(type(exc).__name__)
            self._put(exc)
        finally:
            self._spend(self._context.recorder.steps, after_answer=False)
            if not remembers:
                self._pins.release()
            self._on_end()
            if not remembers:
                await self._save_spent()

    async def _answer(self) -> None:
        async for event in self.agent.run(self._request, self._context):
            if event.text:
                self._answers[event.index] = self._answers.get(event.index, "") + event.text
            if event.index == 0:
                add_pieces(self._calls, event.calls)
                self._finish = event.finish_reason or self._finish
                self._reasoning += event.reasoning
            self._characters += len(event.text) + len(event.reasoning) + sum(len(piece.arguments) for piece in event.calls)
            self._put(event)
        if not self._first.is_set():
            raise RecollectError(f"agent {self.agent.id!r} ended without an answer")
        self._answered = True
        async with self._pending.alone(self._context.namespace):  # the same words said twice at once are remembered once
            await self.agent.acknowledge(self._request, self._context)
        await self._log_trajectory(None)

    def _seen(self, exc: RecollectError) -> RecollectError:
        """The error as the client sees it. An unknown adapter means that the engine was restarted and is being given it again."""
        if not isinstance(exc, NotFound) or not self._pins.versioned:
            return exc
        self._adapters_lost()
        return EngineUnavailable("the engine was restarted and its adapters are being loaded", retry_after_s=1)

    def _put(self, event: StreamEvent | BaseException | None) -> None:
        if isinstance(event, BaseException):
            self._failure = event
        elif self.first_s is None and event is not None:
            self.first_s = self.elapsed_s
        self._events.put_nowait(event)
        self._first.set()

    async def _log_failure(self, error: str) -> None:
        self._failure_text = error
        try:
            await self._log_trajectory(error)
        except (RecollectError, OSError) as exc:
            # The failure itself is what the client is told; that its record is lost is told here.
            logger.warning("trajectory %s, which failed, could not be logged: %s", self.trajectory_id, exc)

    async def _log_trajectory(self, error: str | None) -> None:
        ctx = self._context
        trajectory = Trajectory(
            id=self.trajectory_id,
            tenant=ctx.namespace.tenant,
            namespace=str(ctx.namespace),
            session=self._session,
            agent=self.agent.id,
            agent_config_hash=self.agent.config_hash,
            request=list(self._request.messages),
            tools=list(self._request.tools.offered) if self._request.tools else [],
            instructed=self._instructed,
            answer=self.answer,
            answer_calls=self._calls,
            answer_reasoning=self._reasoning,
            finish_reason=self._finish,
            asked=dict(self._asked),
            memory_seq_before={} if self._seq_before is None else {str(ctx.namespace): self._seq_before},
            steps=list(ctx.recorder.steps),
            error=error,
            trainable=ctx.engine.exact and ctx.recorder.whole,
            use_memory=self._request.use_memory,
        )
        await self._append("trajectory", trajectory.model_dump(mode="json"))
        self.logged = True

    async def _append(self, kind: EventKind, body: dict[str, Any]) -> None:
        await self._log.log(LogEvent(event_id=new_id(), trajectory_id=self.trajectory_id, kind=kind, body=body))

    def _attributes(self, operation: str) -> dict[str, tracing.Value]:
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.name": self.agent.id,
            "recollect.trajectory.id": self.trajectory_id,
            "recollect.tenant": self.namespace.tenant,
            "recollect.channel": self._context.channel,
        }

    async def _remember(self, answered: tracing.Span) -> None:
        ctx = self._context
        before = len(ctx.recorder.steps)
        try:
            await self._delivered.wait()
            with tracing.span(f"remember {self.agent.id}", self._attributes("remember"), after=answered):
                await self.agent.remember(self._request, self.answer, replace(ctx, may_call=not self._spending.used_up))
            await self._log_late(ctx.recorder.steps[before:])
        except asyncio.CancelledError:
            await self._log_late_failure(ctx.recorder.steps[before:], "cancelled: the server was stopped")
        except Exception as exc:  # noqa: BLE001
            # Nothing waits for this task: whatever goes wrong in it ends here, and the record says so.
            await self._log_late_failure(ctx.recorder.steps[before:], _reason(exc))
        finally:
            self._pins.release()
            await self._count(ctx.recorder.steps[before:])

    async def _count(self, late: list[Step]) -> None:
        self._spend(late, after_answer=True)
        await self._save_spent()

    def _spend(self, steps: list[Step], *, after_answer: bool) -> None:
        self._spending.add(self.agent.id, steps, after_answer=after_answer, tenant=self.namespace.tenant, key_id=self._key_id)

    async def _save_spent(self) -> None:
        try:
            await self._spending.save()
        except OSError as exc:  # the count is kept in this process, and written with the next one
            logger.warning("what was spent could not be written: %s", exc.strerror)

    async def _log_late_failure(self, steps: list[Step], reason: str) -> None:
        logger.warning("trajectory %s: its memory was not written: %s", self.trajectory_id, reason)
        try:
            await self._log_late(steps, reason)
        except (RecollectError, OSError) as exc:
            logger.warning("trajectory %s: its late steps could not be logged: %s", self.trajectory_id, exc)

    async def _log_late(self, steps: list[Step], error: str | None = None) -> None:
        namespace = self._context.namespace
        after = {str(namespace): await self._context.store.seq(namespace)}
        body = {"steps": [step.model_dump(mode="json") for step in steps], "memory_seq_after": after, "memory_error": error}
        await self._append("steps", body)


def shown_in(steps: Sequence[Step]) -> list[MemoryRef]:
    """The memories that steps retrieved and showed to a model, each once."""
    found: dict[str, MemoryRef] = {}
    for step in steps:
        if step.error is None and step.role != RERANKER:  # what it passed over was not shown
            for memory in step.retrieved:
                found.setdefault(memory.id, memory)
    return list(found.values())


async def whole(exchange: Exchange) -> str:
    """The answer, when it is whole and durable. Raises what the exchange raises."""
    try:
        async for _ in exchange:
            pass
        return exchange.answer
    finally:
        exchange.abandon()


def defect(exc: BaseException) -> str:
    """The type and the places of an unforeseen error, without its text: that may hold what a user wrote."""
    return f"{type(exc).__name__}\n{''.join(traceback.format_tb(exc.__traceback__))}"


def _reason(exc: Exception) -> str:
    # Only our own errors' texts are known to hold nothing of what users wrote.
    return f"{type(exc).__name__}: {exc.message}" if isinstance(exc, RecollectError) else type(exc).__name__
