"""Traces and metrics over OTLP/HTTP, to the one address that the settings name.

Providers of our own, never OpenTelemetry's global ones: what other libraries would tell those, with content, goes nowhere, and no
OTEL_* variable makes an exporter. Exports run in threads of their own with a bounded queue; what does not fit is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from recollect.settings import TelemetrySettings
from server import tracing
from server.telemetry.instruments import Instruments
from server.telemetry.traces import W3C, OpenSpan, RequestTrace

QUEUE, BATCH = 2048, 512
"""Spans that wait at most, and that go out together."""
SPANS_EVERY_S, METRICS_EVERY_S = 5.0, 60.0
EXPORT_S = 5.0
"""One export at most, retries included."""
CLOSE_S = 5.0


class Telemetry:
    """One server's traces and metrics, from its start to `close`."""

    def __init__(self, settings: TelemetrySettings, *, version: str, provider: str) -> None:
        """`provider`: what the engine is, for `gen_ai.provider.name`."""
        resource = Resource({"service.name": settings.service_name, "service.version": version})
        self._spans = OTLPSpanExporter(
            endpoint=settings.address("traces"), headers=dict(settings.headers), timeout=EXPORT_S, session=_session(), meter_provider=SILENT
        )
        self._tracers = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)), resource=resource, shutdown_on_exit=False
        )
        self._tracers.add_span_processor(
            BatchSpanProcessor(
                self._spans,
                max_queue_size=QUEUE,
                schedule_delay_millis=SPANS_EVERY_S * 1000,
                max_export_batch_size=BATCH,
                export_timeout_millis=EXPORT_S * 1000,
                meter_provider=SILENT,
            )
        )
        readers = [_reader(settings)] if settings.metrics else []
        self._meters = MeterProvider(
            metric_readers=readers, resource=resource, shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
        )
        self.instruments = Instruments(self._meters.get_meter("recollect", version))
        self._tracer = self._tracers.get_tracer("recollect", version)
        self._provider = provider

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: tracing.Attributes) -> Generator[OpenSpan]:
        """The span of a whole request, which continues what a `traceparent` among its headers names."""
        parent = W3C.extract(headers, Context())
        span = self._tracer.start_span(name, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        with self._below(OpenSpan(span)) as root:
            yield root

    @contextmanager
    def work(self, name: str) -> Generator[OpenSpan]:
        """The span of what the server does without being asked."""
        with self._below(OpenSpan(self._tracer.start_span(name, context=Context()))) as root:
            yield root

    @contextmanager
    def _below(self, opened: OpenSpan) -> Generator[OpenSpan]:
        with opened as root:
            token = tracing.begin(RequestTrace(self._tracer, self.instruments, self._provider, root))
            try:
                yield root
            finally:
                tracing.end(token)

    def flush(self) -> None:
        """Send what waits, and wait for that."""
        self._tracers.force_flush()
        self._meters.force_flush()

    def close(self) -> None:
        """Send what waits, for a bounded time: an address where nobody answers must not hold the server up."""
        patience = threading.Timer(CLOSE_S, self._spans.shutdown)
        patience.daemon = True
        patience.start()
        try:
            self._tracers.shutdown()
            self._meters.shutdown(timeout_millis=CLOSE_S * 1000)
        finally:
            patience.cancel()


SILENT = NoOpMeterProvider()
"""Where the exporters would tell of themselves."""


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # the address is the settings', not that of a proxy in the environment; nor is a netrc file read
    return session


def _reader(settings: TelemetrySettings) -> PeriodicExportingMetricReader:
    exporter = OTLPMetricExporter(
        endpoint=settings.address("metrics"), headers=dict(settings.headers), timeout=EXPORT_S, session=_session()
    )
    return PeriodicExportingMetricReader(exporter, export_interval_millis=METRICS_EVERY_S * 1000, export_timeout_millis=EXPORT_S * 1000)
