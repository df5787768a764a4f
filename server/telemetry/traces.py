"""Spans by OpenTelemetry's conventions for generative AI, without content: of an error the type alone, never its text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextvars import ContextVar, Token

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from recollect.policy import Policy
from recollect.trajectory import Usage
from server import tracing
from server.delegation.loop import ROLE as WORKER
from server.engines.base import Chunk, Sampling
from server.telemetry.instruments import Instruments
from server.tracing import Attributes, Kind, Value

KINDS: Mapping[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
W3C = TraceContextTextMapPropagator()


class OpenSpan:
    """A span that is current while its block runs."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    def __enter__(self) -> OpenSpan:
        self._token = attach(set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, exc: BaseException | None, _: object) -> None:
        if self._token is not None:
            detach(self._token)
        if exc is not None:
            self.fail(error_of(exc))
        self._span.end()

    @property
    def link(self) -> Link:
        """For a span that is about this one."""
        return Link(self._span.get_span_context())

    def rename(self, name: str) -> None:
        """What it is called, where that was not known when it began."""
        self._span.update_name(name)

    def set(self, name: str, value: Value) -> None:
        """An attribute; of one that has ended nothing more is told, such as the request that began a worker."""
        if self._span.is_recording():
            self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        """It ended in an error of that type."""
        _fail(self._span, kind)


class RequestTrace:
    """The trace of one request, whose outermost span is `root`."""

    def __init__(self, tracer: Tracer, instruments: Instruments, provider: str, root: OpenSpan) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._provider = provider
        self._root = root

    def span(self, name: str, kind: Kind, attributes: Attributes, carrier: Mapping[str, str], after: tracing.Span | None) -> OpenSpan:
        """A span below what is current, or below what `carrier` names; then it is linked to what is current."""
        links = [after.link] if isinstance(after, OpenSpan) else []
        parent = None
        if carrier and get_current_span(remote := W3C.extract(carrier, Context())).get_span_context().is_valid:
            parent = remote
            links.append(Link(get_current_span().get_span_context()))
        return OpenSpan(self._tracer.start_span(name, context=parent, kind=KINDS[kind], attributes=attributes, links=links or None))

    def mark(self, name: str, value: Value) -> None:
        """An attribute of the outermost span."""
        self._root.set(name, value)

    def call(self, role: str, policy: Policy, alias: str | None, sampling: Sampling) -> TracedCall:
        """A call of a model begins."""
        # What is handed on goes to other providers: they speak OpenAI's API, or are its Codex.
        provider = "openai" if role == WORKER and alias is None else self._provider
        named = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": policy.name}
        more: dict[str, Value] = {"recollect.role": role, "recollect.base_model": policy.base}
        if alias is not None:
            more["recollect.policy"] = alias
        if sampling.max_tokens is not None:
            more["gen_ai.request.max_tokens"] = sampling.max_tokens
        if sampling.n > 1:
            more["gen_ai.request.choice.count"] = sampling.n
        span = self._tracer.start_span(f"chat {policy.name}", kind=SpanKind.CLIENT, attributes={**named, **more})
        return TracedCall(span, self._instruments, named)

    def outgoing(self, host: str, port: int) -> Mapping[str, str]:
        """The headers by which an engine continues the trace."""
        if (call := _calling.get()) is not None:
            call.reaches(host, port)
        headers: dict[str, str] = {}
        W3C.inject(headers)
        return headers

    def ids(self) -> Mapping[str, str]:
        """Of what is current, in hexadecimal as W3C writes them."""
        context = get_current_span().get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context.is_valid else {}


class TracedCall:
    """The span of one call of a model, and its metrics. It is current while the engine is asked, up to the first chunk."""

    def __init__(self, span: Span, instruments: Instruments, attributes: dict[str, str]) -> None:
        self._span = span
        self._instruments = instruments
        self._attributes: dict[str, Value] = {**attributes}
        self._begun = time.perf_counter()

    def reaches(self, host: str, port: int) -> None:
        """The engine that was chosen is there."""
        where = {"server.address": host, "server.port": port}
        self._attributes.update(where)
        self._span.set_attributes(where)

    async def over(self, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk]:
        """The chunks."""
        try:
            first = await self._first(chunks)
            if first is None:
                return
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", time.perf_counter() - self._begun)
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            if (aclose := getattr(chunks, "aclose", None)) is not None:
                await aclose()

    def end(self, reasons: Sequence[str], usage: Usage, error: BaseException | None) -> None:
        """It has ended."""
        span, kind = self._span, None if error is None else error_of(error)
        if kind is None:
            span.set_attribute("gen_ai.response.model", str(self._attributes["gen_ai.request.model"]))
        else:
            _fail(span, kind)
        span.set_attribute("gen_ai.response.finish_reasons", reasons)
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        span.end()
        self._instruments.called(time.perf_counter() - self._begun, usage, self._attributes, kind)

    async def _first(self, chunks: AsyncIterator[Chunk]) -> Chunk | None:
        # Only around this wait: a generator that is left at a `yield` would leave its span current in whoever reads it.
        token, calling = attach(set_span_in_context(self._span)), _calling.set(self)
        try:
            return await anext(chunks, None)
        finally:
            _calling.reset(calling)
            detach(token)


_calling: ContextVar[TracedCall | None] = ContextVar("recollect_model_call", default=None)


def error_of(exc: BaseException) -> str:
    """The type of an error, by which it can be counted."""
    return "cancelled" if isinstance(exc, asyncio.CancelledError | GeneratorExit) else type(exc).__name__


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
