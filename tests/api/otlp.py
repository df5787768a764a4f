"""A receiver of OTLP over HTTP: what was sent to it, decoded, and as the bytes that came."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.api.conftest import Served


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was sent."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[str]
    failed: bool
    events: int
    begun: int
    ended: int


@dataclass(slots=True)
class Receiver:
    """`url` is what `telemetry.otlp_endpoint` is set to."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list[Seen])
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    raw: list[bytes] = field(default_factory=list[bytes])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """A request has come."""
        self.raw.append(body)
        self.headers.append(headers)
        if path.endswith("/v1/traces"):
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        elif path.endswith("/v1/metrics"):
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        else:
            raise AssertionError(f"{path} is no path of OTLP")

    def named(self, name: str) -> Seen:
        """The one span of that name."""
        [found] = [span for span in self.spans if span.name == name]
        return found

    def tree(self, trace_id: str) -> dict[str, str]:
        """By span, the name of the one above it; empty for one whose parent is not of this server."""
        names = {span.span_id: span.name for span in self.spans}
        return {span.name: names.get(span.parent_id, "") for span in self.spans if span.trace_id == trace_id}

    async def flushed(self, served: Served) -> None:
        """Have a server send what it has, once everything pending is written."""
        await served.logged()
        assert served.service.telemetry is not None
        await asyncio.to_thread(served.service.telemetry.flush)

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(_plain(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            name=span.name,
                            kind=type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            attributes=_plain(span.attributes),
                            links=[link.span_id.hex() for link in span.links],
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                            events=len(span.events),
                            begun=span.start_time_unix_nano,
                            ended=span.end_time_unix_nano,
                        )
                    )

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = [{**_plain(p.attributes), "count": p.count, "sum": p.sum} for p in metric.histogram.data_points]
                    self.metrics[metric.name] = points  # they add up: the last export has them all


def _plain(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


@asynccontextmanager
async def receiving(status: int = 200) -> AsyncGenerator[Receiver]:
    """A receiver on a free port of 127.0.0.1, which answers everything with `status`."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.take(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join()
