# SPDX-License-Identifier: Apache-2.0
"""An OTLP receiver over HTTP for the tests: keeps every span as it came over the wire."""

from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True, kw_only=True)
class ReceivedSpan:
    """The parts of a span that tests look at."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


@dataclass(kw_only=True)
class Receiver:
    """What came."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def traces(self, request: Request) -> Response:
        """POST /v1/traces."""
        body = await request.body()
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            self.spans += [
                ReceivedSpan(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    attributes={
                        item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes
                    },
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return Response(media_type="application/x-protobuf")

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(routes=[Route("/v1/traces", self.traces, methods=["POST"])])
