"""OpenTelemetry spans of a request: gateway, store, engine, rules. Off unless a collector is named.

Set OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) and install the `otel` extra. OpenTelemetry's
other standard variables hold too: service name, sampler, headers, timeouts. Without an endpoint we import
nothing of OpenTelemetry, and a span costs one function call.
"""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from recommender import logs
from serving.gateway.trace import SAMPLED, Trace

log = logs.get(__name__)
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = "campaign-gateway"
"""The service's name, where OTEL_SERVICE_NAME gives none."""
STOP_S = 3.0
"""Seconds for sending the last spans when the gateway ends. By hand: within a pod's grace period."""
PREFIX = "recommender."
KEPT = ("request_id", "x_request_id", "variant", "model_version", "cold_start", "degraded_reasons")
"""What is bound to the log line of a request and goes to its span too. Nothing of it is about a user."""
_NOTHING: AbstractContextManager[None] = nullcontext()


class _State:
    """What `start` made. Both are None while tracing is off."""

    provider: Any = None
    tracer: Any = None


def start() -> None:
    """Begin to send spans, where the environment names a collector."""
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("no spans are sent: the extra `otel` is not installed", problem=str(error))
        return
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    # At exit it would wait for a collector that is away; `stop` waits for `STOP_S`.
    _State.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _State.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _State.tracer = _State.provider.get_tracer("recommender")
    log.info("spans are sent", endpoint=endpoint)


def stop() -> None:
    """Send what is left, and end."""
    provider, _State.provider, _State.tracer = _State.provider, None, None
    if provider is not None:
        thread = threading.Thread(target=provider.shutdown, daemon=True, name="last-spans")
        thread.start()
        thread.join(STOP_S)


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A part of the request that is being handled. An exception that leaves the block is noted on the span."""
    if _State.tracer is None:
        return _NOTHING
    named = {PREFIX + key: value for key, value in attributes.items()}
    found: AbstractContextManager[Any] = _State.tracer.start_as_current_span(name, attributes=named)
    return found


class RequestSpan:
    """The span of a whole request. `ids` are those of the request, in the trace that the span belongs to."""

    def __init__(self, ids: Trace, method: str) -> None:
        from opentelemetry import context, trace

        parent = context.Context()
        if ids.parent_id is not None:
            caller = trace.SpanContext(
                int(ids.trace_id, 16), int(ids.parent_id, 16), is_remote=True, trace_flags=trace.TraceFlags(ids.flags)
            )
            parent = trace.set_span_in_context(trace.NonRecordingSpan(caller), parent)
        self._span = _State.tracer.start_span(
            method, context=parent, kind=trace.SpanKind.SERVER, attributes={"http.request.method": method}
        )
        self._attached = context.attach(trace.set_span_in_context(self._span))
        made = self._span.get_span_context()
        self.ids = replace(
            ids,
            trace_id=f"{made.trace_id:032x}",
            span_id=f"{made.span_id:016x}",
            flags=int(made.trace_flags) & SAMPLED,
        )

    def end(self, method: str, path: str | None, status: int) -> None:
        """End it, with the route, the status and what is known of the decision."""
        from opentelemetry import context, trace

        context.detach(self._attached)
        if path is not None:
            self._span.update_name(f"{method} {path}")
            self._span.set_attribute("http.route", path)
        self._span.set_attribute("http.response.status_code", status)
        bound = logs.bound()
        self._span.set_attributes({PREFIX + key: bound[key] for key in KEPT if bound.get(key) is not None})
        if status >= 500:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


def request_span(ids: Trace, method: str, path: str) -> RequestSpan | None:
    """The span of a request to the API. None: tracing is off, or it is a probe."""
    if _State.tracer is None or not path.startswith("/v1/"):
        return None
    return RequestSpan(ids, method)
