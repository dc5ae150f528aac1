# SPDX-License-Identifier: Apache-2.0
"""Measures requests and stages, as metrics and, where a receiver is configured, as OpenTelemetry spans.

Spans and labels hold routes, reasons and times. No question, passage, answer or key goes into them, and no
message of an error: only its reason.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import httpx
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nimblet_retriever.config import TracingConfig
from nimblet_retriever.metrics import Metrics
from nimblet_retriever.watch import Stage

OK: Final = "ok"
EXPORT_SECONDS: Final = 5.0
"""Of one request to the receiver; it runs in a thread of its own and holds no question up."""
SERVICE: Final = "nimblet-retriever"
_NO_SPAN: Final = nullcontext(INVALID_SPAN)


@dataclass(kw_only=True)
class Outcome:
    """How a request ended; what nobody set is an error of ours."""

    status: int = 500
    reason: str = "InternalError"


class Telemetry:
    """A Watch that measures; without a tracer spans cost nothing."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None) -> None:
        self.metrics = metrics
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Time a stage."""
        with self._span(name) as span, self.metrics.stages.labels(name).time():
            try:
                yield
            except Exception as error:
                _failed(span, type(error).__name__)
                raise

    def fell_back(self, reason: str) -> None:
        """Count a question without its reranker."""
        self.metrics.fallbacks.labels(reason).inc()

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Outcome]:
        """Time a request; its span continues the caller's trace, if it sent one."""
        outcome = Outcome()
        began = time.perf_counter()
        with self._server_span(method, route, headers) as span:
            try:
                yield outcome
            finally:
                span.set_attribute("http.response.status_code", outcome.status)
                if outcome.reason != OK:
                    _failed(span, outcome.reason)
                self.metrics.requests.labels(route, outcome.reason).inc()
                self.metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def inject(self, request: httpx.Request) -> None:
        """Hand the current trace on to a model: a request hook of the client."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        request.headers.update(carrier)

    def _server_span(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        if self._tracer is None:
            return _NO_SPAN
        return self._tracer.start_as_current_span(
            f"{method} {route}",
            context=self._propagator.extract(carrier=headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        )

    def _span(self, name: str) -> AbstractContextManager[Span]:
        if self._tracer is None:
            return _NO_SPAN
        return self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)


def _failed(span: Span, reason: str) -> None:
    span.set_attribute("error.type", reason)
    span.set_status(StatusCode.ERROR)


def open_tracing(config: TracingConfig | None, *, index: str) -> TracerProvider | None:
    """Return a provider that sends spans in batches, None where none are wanted. Shut it down at the end."""
    if config is None:
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE, "nimblet.index": index}))
    exporter = OTLPSpanExporter(endpoint=f"{config.endpoint}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def tracer_of(provider: TracerProvider | None) -> Tracer | None:
    """Return the tracer of a provider, none without."""
    return provider.get_tracer(SERVICE) if provider is not None else None
