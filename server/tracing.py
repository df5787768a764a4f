"""Where a request's work is told to a trace. Without one, which is the default, each function here is one look at a variable.

A trace is begun by the edge where `telemetry.otlp_endpoint` is set (server/telemetry); tasks that a request starts inherit it. No
span has what people wrote: no message, memory, argument, namespace or text of an error. OpenTelemetry is not imported here, so that
agents in the trainer do without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from recollect.policy import Policy
    from recollect.trajectory import Usage
    from server.engines.base import Chunk, Sampling

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]
Kind = Literal["internal", "server", "client"]
NONE: Mapping[str, str] = {}


class Span(Protocol):
    """What is being done."""

    def set(self, name: str, value: Value) -> None:
        """Tell something of it. Never what somebody wrote."""
        ...

    def fail(self, kind: str) -> None:
        """It did not succeed; `kind` is a type of error, no message."""
        ...


class ModelCall(Protocol):
    """One call of a model, whose chunks come one by one."""

    def over(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        """Pass them on; what the engine sends for the first one belongs to the call."""
        ...

    def end(self, reasons: Sequence[str], usage: Usage, error: BaseException | None) -> None:
        """It has ended, for these reasons (of its choices), having used so many tokens."""
        ...


class Trace(Protocol):
    """One request, from its beginning to what is written after its answer."""

    def span(
        self, name: str, kind: Kind, attributes: Attributes, carrier: Mapping[str, str], after: Span | None
    ) -> AbstractContextManager[Span]: ...

    def mark(self, name: str, value: Value) -> None: ...

    def call(self, role: str, policy: Policy, alias: str | None, sampling: Sampling) -> ModelCall: ...

    def outgoing(self, host: str, port: int) -> Mapping[str, str]: ...

    def ids(self) -> Mapping[str, str]: ...


class _Off:
    """Every span and every call of a model where nothing is traced."""

    __slots__ = ()

    def __enter__(self) -> _Off:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def set(self, name: str, value: Value) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass

    def over(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        return chunks

    def end(self, reasons: Sequence[str], usage: Usage, error: BaseException | None) -> None:
        pass


OFF = _Off()
_current: ContextVar[Trace | None] = ContextVar("recollect_trace", default=None)


def begin(trace: Trace) -> Token[Trace | None]:
    """From here on, in this task and in those that it starts, work is told to `trace`."""
    return _current.set(trace)


def end(token: Token[Trace | None]) -> None:
    """Undo `begin`."""
    _current.reset(token)


def span(
    name: str, attributes: Attributes = NONE, *, kind: Kind = "internal", carrier: Mapping[str, str] = NONE, after: Span | None = None
) -> AbstractContextManager[Span]:
    """A span around a block; a failure of the block is one of the span.

    `carrier` may hold a `traceparent` to continue instead of what is current; `after` is a span whose end it follows.
    """
    trace = _current.get()
    return OFF if trace is None else trace.span(name, kind, attributes, carrier, after)


def mark(name: str, value: Value) -> None:
    """Tell something of the whole request."""
    if (trace := _current.get()) is not None:
        trace.mark(name, value)


def model_call(role: str, policy: Policy, alias: str | None, sampling: Sampling) -> ModelCall:
    """A call of a model begins."""
    trace = _current.get()
    return OFF if trace is None else trace.call(role, policy, alias, sampling)


def outgoing(host: str, port: int) -> Mapping[str, str]:
    """Headers for a request to an engine there, with which it may continue the trace."""
    trace = _current.get()
    return NONE if trace is None else trace.outgoing(host, port)


def ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of what is being done, for a log line."""
    trace = _current.get()
    return NONE if trace is None else trace.ids()
