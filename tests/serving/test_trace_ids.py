"""`traceparent` and `X-Request-ID`: taken, returned, logged and recorded, and made where there is none."""

import json
import re
import time
from typing import Any

import pytest
from gateways import Gateway, gateway

from recommender.decisions.log import find, folders_of
from recommender.settings import Settings
from serving.gateway.trace import MAX_REQUEST_ID, trace_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "page-7/home@1"}
RETURNED = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def lines(running: Gateway, x_request_id: str) -> list[dict[str, Any]]:
    """The lines of the gateway's log about a request, as soon as there is one."""
    deadline = time.monotonic() + 20
    while True:
        found = [json.loads(line) for line in running.log().splitlines() if x_request_id in line]
        if found:
            return found
        assert time.monotonic() < deadline, running.log()
        time.sleep(0.05)


def test_the_ids_of_a_request_are_in_the_answer_the_log_and_the_decision_record(home: Settings) -> None:
    with gateway(home) as running:
        answer = running.ask(**SENT)
        trace_id, span_id, flags = RETURNED.fullmatch(answer.headers["traceparent"]).groups()  # type: ignore[union-attr]
        assert (trace_id, flags) == (TRACE, "01")
        assert span_id != PARENT
        assert answer.headers["x-request-id"] == SENT["x-request-id"]
        record = find(folders_of(running.settings), answer.json()["request_id"])
        (line,) = lines(running, SENT["x-request-id"])
        for kept in (record, line):
            assert (kept["trace_id"], kept["x_request_id"]) == (TRACE, SENT["x-request-id"])
        assert line["request_id"] == answer.json()["request_id"]


def test_a_request_without_ids_gets_its_own_and_a_refused_one_keeps_its_own(home: Settings) -> None:
    with gateway(home) as running:
        first, second = running.ask(), running.ask()
        made = [(one.headers["traceparent"], one.headers["x-request-id"]) for one in (first, second)]
        assert all(RETURNED.fullmatch(parent) and re.fullmatch("[0-9a-f]{32}", known) for parent, known in made)
        assert len({*made[0], *made[1]}) == 4
        refused = running.client.post("/v1/recommendations", json={"user_id": 1}, headers=SENT)
        assert refused.status_code == 422
        assert refused.headers["x-request-id"] == SENT["x-request-id"]
        (line,) = lines(running, SENT["x-request-id"])
        assert (line["status"], line["trace_id"]) == (422, TRACE)


def test_a_refusal_by_the_head_alone_returns_the_ids_too(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_TOKEN", "right")
    with gateway(home) as running:
        refused = running.ask(**SENT)
        assert refused.status_code == 401
        assert {name: refused.headers[name] for name in SENT} == SENT
        again = running.client.post("/v1/recommendations", json={"user_id": "1"}, headers={"x-request-id": "a b"})
        assert (again.status_code, "x-request-id" in again.headers) == (401, False)
        assert running.ask(authorization="Bearer right").status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        f"00-{TRACE}-{PARENT}".encode(),
        f"00-{TRACE.upper()}-{PARENT}-01".encode(),
        f"00-{'0' * 32}-{PARENT}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-01-more".encode(),
        f"00-{TRACE}-{PARENT}-01\xff".encode("latin-1"),
    ],
)
def test_a_traceparent_that_is_not_valid_begins_a_new_trace(value: bytes) -> None:
    found = trace_of([(b"traceparent", value)])
    assert found.trace_id != TRACE
    assert found.parent_id is None
    assert RETURNED.fullmatch(found.traceparent)


def test_a_later_version_of_traceparent_is_understood_and_unknown_flags_are_dropped() -> None:
    found = trace_of([(b"traceparent", f"01-{TRACE}-{PARENT}-ff-what.comes".encode())])
    assert (found.trace_id, found.parent_id, found.flags) == (TRACE, PARENT, 1)


@pytest.mark.parametrize("value", [b"", b"a b", b"a" * (MAX_REQUEST_ID + 1), b"a\x00", b"{}", "ü".encode()])
def test_a_request_id_that_is_too_long_or_holds_other_characters_is_replaced(value: bytes) -> None:
    assert re.fullmatch("[0-9a-f]{32}", trace_of([(b"x-request-id", value)]).x_request_id)


def test_two_headers_of_one_name_are_none() -> None:
    found = trace_of([(b"x-request-id", b"a"), (b"x-request-id", b"b")])
    assert found.x_request_id not in ("a", "b")
