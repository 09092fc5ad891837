"""Spans of a request, as a collector receives them over OTLP/HTTP."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Endpoint
from gateways import beside, gateway
from servers import free_ports

from recommender.decisions.log import find, folders_of
from recommender.settings import Settings

collector = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra `otel` is not installed"
)
pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector:
    """A small collector, which keeps what it receives."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[Any] = []

    def receive(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        request = collector.ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            named = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for of_scope in of_resource.scope_spans for span in of_scope.spans]

    def wait_for(self, count: int) -> dict[str, Any]:
        """The spans by name, as soon as there are so many."""
        deadline = time.monotonic() + 30
        while len(self.spans) < count:
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)
        assert len(self.spans) == count
        return {span.name: span for span in self.spans}


@contextmanager
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that gateways started within this block send to."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers.get("content-encoding") is None
            found.receive(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds between batches
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def test_a_request_is_one_trace_of_gateway_store_and_engine_within_the_caller_s(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(monkeypatch) as received, beside(endpoint, tmp_path) as running:
        answer = running.ask(endpoint.shop.users[0], **SENT)
        spans = received.wait_for(3)
        record = find(folders_of(running.settings), answer.json()["request_id"])
    assert received.services == {"campaign-gateway"}
    whole, store, engine = (spans[name] for name in ("POST /v1/recommendations", "store", "engine"))
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert whole.parent_span_id.hex() == PARENT
    assert store.parent_span_id == engine.parent_span_id == whole.span_id
    assert answer.headers["traceparent"] == f"00-{TRACE}-{whole.span_id.hex()}-01"
    assert record["trace_id"] == TRACE
    known = attributes(whole)
    assert (known["http.response.status_code"], known["http.route"]) == (200, "/v1/recommendations")
    for name in ("request_id", "variant", "model_version"):
        assert known[f"recommender.{name}"] == answer.json()[name]
    assert attributes(engine)["recommender.model_version"] == answer.json()["model_version"]
    assert whole.start_time_unix_nano <= store.start_time_unix_nano < store.end_time_unix_nano
    assert store.end_time_unix_nano <= engine.start_time_unix_nano < engine.end_time_unix_nano
    assert engine.end_time_unix_nano <= whole.end_time_unix_nano
    assert endpoint.shop.users[0] not in {str(value) for span in spans.values() for value in attributes(span).values()}


def test_a_popular_list_has_a_span_for_its_rules_and_a_trace_of_its_own(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(monkeypatch) as received, gateway(home) as running:
        answer = running.ask("a stranger")
        spans = received.wait_for(3)
        running.client.get("/healthz")
    assert spans.keys() == {"POST /v1/recommendations", "store", "rules"}
    whole = spans["POST /v1/recommendations"]
    assert whole.parent_span_id == b""
    assert answer.headers["traceparent"] == f"00-{whole.trace_id.hex()}-{whole.span_id.hex()}-01"
    assert len(received.spans) == 3


def test_the_last_spans_are_sent_when_the_gateway_ends(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting(monkeypatch) as received:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        with gateway(home) as running:
            running.ask("a stranger")
        assert len(received.spans) == 3


def test_a_collector_that_is_away_costs_no_request_anything(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with gateway(home) as running:
        for _ in range(20):
            began_s = time.monotonic()
            assert running.ask("a stranger").status_code == 200
            assert time.monotonic() - began_s < 10
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 40  # it ends too, without waiting for the collector


def test_without_a_collector_nothing_that_makes_or_sends_spans_is_imported() -> None:
    # FastAPI imports OpenTelemetry's API, which does nothing by itself, wherever that is installed.
    program = (
        "import sys; import serving.gateway.server; from serving.gateway import tracing; tracing.start(); "
        "assert tracing.span('x') is tracing.span('y'); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_collector_without_the_extra_is_a_warning_and_no_failure() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from recommender import logs; "
        "logs.configure(process='gateway'); from serving.gateway import tracing; tracing.start(); "
        "assert tracing.span('x') is tracing.span('y')"
    )
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert line["level"] == "warning"
    assert "otel" in line["event"]
