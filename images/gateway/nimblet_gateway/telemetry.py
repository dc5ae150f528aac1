# SPDX-License-Identifier: Apache-2.0
"""Metrics, and traces that follow a request to model, guard and retrievers. No text and no key in either."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nimblet_gateway.config import TracingConfig
from nimblet_gateway.errors import ApiError
from nimblet_gateway.web import Failed

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """What is counted. Labels hold names of the configuration and reasons of ours, nothing that a client sent."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        name = "nimblet_gateway_{}".format
        self.requests = Counter(
            name("requests"), "Requests by path and how they ended.", ["path", "outcome"], registry=registry
        )
        self.seconds = Histogram(
            name("request_seconds"), "From request to last byte.", ["path"], registry=registry, buckets=SECONDS
        )
        self.first_text = Histogram(
            name("first_text_seconds"),
            "From request to the first text that is sent.",
            registry=registry,
            buckets=SECONDS,
        )
        self.retrieval = Histogram(
            name("retrieval_seconds"), "An index's answers.", ["index"], registry=registry, buckets=SECONDS
        )
        self.tokens = Counter(
            name("tokens"), "Tokens by the key's id, prompt or answer.", ["caller", "kind"], registry=registry
        )
        self.sentences = Counter(
            name("sentences"),
            "Checked sentences: supported, dropped or kept unsupported.",
            ["verdict"],
            registry=registry,
        )
        self.refusals = Counter(
            name("refusals"), "Answers that were refusals, by reason.", ["reason"], registry=registry
        )
        self.failures = Counter(
            name("dependency_failures"),
            "What model, guard or an index failed with.",
            ["dependency", "reason"],
            registry=registry,
        )
        self.fallbacks = Counter(name("fallbacks"), "Answers of the fallback model.", registry=registry)
        self.running = Gauge(name("running"), "Requests at the model.", registry=registry)
        self.waiting = Gauge(name("waiting"), "Requests that wait for their turn.", registry=registry)
        self.ready = Gauge(
            name("dependency_ok"), "1 while a dependency answers.", ["dependency"], registry=registry
        )


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A place in a trace. Passed on by hand: a stream outlives the block it was begun in."""

    tracer: Tracer
    context: Context

    @contextmanager
    def span(self, name: str, *, server: bool = False, **attributes: str | float | bool) -> Iterator["Trace"]:
        """Open a span below this place."""
        kind = SpanKind.SERVER if server else SpanKind.CLIENT
        span = self.tracer.start_span(name, context=self.context, kind=kind, attributes=attributes)
        # without a tracer the span stands for the caller's own, so that its traceparent still goes on
        context = set_span_in_context(span, self.context) if span.is_recording() else self.context
        try:
            yield Trace(tracer=self.tracer, context=context)
        except (ApiError, Failed) as error:
            span.set_status(StatusCode.ERROR, error.code if isinstance(error, ApiError) else error.reason)
            raise
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def headers(self) -> dict[str, str]:
        """Return the headers that pass this place on."""
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, self.context)
        return carrier


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """Where traces begin."""

    tracer: Tracer
    provider: TracerProvider | None

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """Return the place that a request's traceparent names, or a new trace's."""
        return Trace(tracer=self.tracer, context=TraceContextTextMapPropagator().extract(dict(headers), Context()))

    def close(self) -> None:
        """Send what is left."""
        if self.provider is not None:
            self.provider.shutdown()


def tracing(config: TracingConfig | None, *, assistant: str) -> Tracing:
    """Return tracing as configured; without an endpoint nothing is recorded and traceparents go through."""
    if config is None:
        return Tracing(tracer=NoOpTracer(), provider=None)
    resource = Resource({"service.name": "nimblet-gateway", "nimblet.assistant": assistant})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.endpoint)))
    return Tracing(tracer=provider.get_tracer("nimblet_gateway"), provider=provider)
