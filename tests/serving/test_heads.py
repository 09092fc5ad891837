"""What a client sends before the body: bounded, unambiguous, and refused in the contract's form."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from conftest import Shop
from gateways import PATH, Gateway, copied_home, gateway, gateway_in_a_thread, read_reply

from recommender.settings import Settings
from serving.gateway import connection as connections
from serving.gateway.head import MAX_HEAD_BYTES
from serving.request import MAX_BODY_BYTES

BODY = b'{"user_id": "1"}'
HEAD = b"POST /v1/recommendations HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
WITH_LENGTH = b"Content-Length: 16\r\n"
AMBIGUOUS = {
    "a length and chunks": HEAD + WITH_LENGTH + b"Transfer-Encoding: chunked\r\n\r\n10\r\n" + BODY + b"\r\n0\r\n\r\n",
    "two lengths": HEAD + WITH_LENGTH + b"Content-Length: 17\r\n\r\n" + BODY,
    "one length twice": HEAD + WITH_LENGTH + WITH_LENGTH + b"\r\n" + BODY,
    "a length with a sign": HEAD + b"Content-Length: +16\r\n\r\n" + BODY,
    "two lengths in one header": HEAD + b"Content-Length: 16, 16\r\n\r\n" + BODY,
    "chunks twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks that are compressed": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"Content-Length : 16\r\n\r\n" + BODY,
    "a folded header": HEAD + b"X-A: a\r\n b\r\n" + WITH_LENGTH + b"\r\n" + BODY,
    "two Hosts": HEAD + b"Host: other\r\n" + WITH_LENGTH + b"\r\n" + BODY,
    "no Host": HEAD.replace(b"Host: gateway\r\n", b"") + WITH_LENGTH + b"\r\n" + BODY,
    "a null in a header": HEAD + b"X-A: a\x00b\r\n" + WITH_LENGTH + b"\r\n" + BODY,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a broken chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
}


@pytest.fixture(scope="module")
def alone(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a model: its answers are the popular list."""
    with gateway(copied_home(shop, tmp_path_factory.mktemp("heads") / "home")) as running:
        yield running


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_servers_could_read_differently_is_refused_and_the_connection_closed(
    alone: Gateway, name: str
) -> None:
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n"
    reply = alone.send(AMBIGUOUS[name] + smuggled)
    assert (reply.status, reply.json()["error"], reply.closed) == (400, "bad_request", True), reply
    assert "connection: close" in reply.head


ALIVE = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n"
BEHIND_AN_ANSWER = {
    "no trailer": ALIVE + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
    "no chunk": ALIVE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a second request": ALIVE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HEAD + WITH_LENGTH + b"\r\n" + BODY,
    "a request behind the last one": ALIVE + b"Connection: close\r\n\r\n" + HEAD + WITH_LENGTH + b"\r\n" + BODY,
    "no request": ALIVE + b"Expect: 100-continue\r\n\r\n" + b"no request\r\n\r\n",
}
"""A body that is not waited for closes the connection behind the answer."""


@pytest.mark.parametrize("name", BEHIND_AN_ANSWER)
def test_what_comes_in_the_same_bytes_behind_a_last_answer_is_dropped(alone: Gateway, name: str) -> None:
    before = len(alone.log())
    with closing(alone.connect()) as connection:
        connection.sendall(BEHIND_AN_ANSWER[name])
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert (received.count(b"HTTP/1.1 "), received.startswith(b"HTTP/1.1 200")) == (1, True), received
    assert "Traceback" not in alone.log()[before:]


def test_a_client_that_sends_more_than_it_announced_can_read_its_answer(alone: Gateway) -> None:
    with closing(alone.connect()) as connection:
        connection.sendall(HEAD + b"Content-Length: 16\r\n\r\n" + BODY + BODY)
        for _ in range(5):
            time.sleep(0.05)
            connection.sendall(BODY)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))  # a reset would be an error
    assert (received.count(b"HTTP/1.1 "), received.startswith(b"HTTP/1.1 200")) == (1, True), received


def test_an_endless_header_is_refused_once_64_kib_of_it_arrived(alone: Gateway) -> None:
    before = alone.metric("recommender_refusals_total", status="431")
    with closing(alone.connect()) as connection:
        connection.sendall(HEAD + b"X-Endless: " + b"x" * MAX_HEAD_BYTES)
        reply = read_reply(connection)
    assert (reply.status, reply.json()["error"], reply.closed) == (431, "head_too_large", True)
    assert alone.metric("recommender_refusals_total", status="431") == before + 1


def test_other_clients_do_not_notice_an_endless_header(alone: Gateway) -> None:
    with closing(alone.connect()) as connection:
        connection.sendall(HEAD + b"X-Endless: ")
        slowest_s = 0.0
        for _ in range(40):
            with suppress(OSError):  # cut off, as it should be
                connection.sendall(b"x" * 2**20)
            began = time.monotonic()
            assert alone.ask().status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - began)
    assert slowest_s < 15, "the event loop stood still"


def test_a_body_that_announces_too_many_bytes_is_refused_before_any_of_it_is_sent(alone: Gateway) -> None:
    before = alone.metric("recommender_refusals_total", status="413")
    head = HEAD + b"X-Request-ID: mine\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
    reply = alone.send(head)
    assert (reply.status, reply.json()["fields"][0]["field"], reply.closed) == (413, "body", True)
    assert "x-request-id: mine" in reply.head
    assert alone.metric("recommender_refusals_total", status="413") == before + 1


def test_a_client_that_sends_megabytes_before_it_reads_still_gets_its_refusal(alone: Gateway) -> None:
    body = b"x" * (3 * 2**20)
    for length in (b"Content-Length: %d\r\n\r\n" % len(body), b"Transfer-Encoding: chunked\r\n\r\n300000\r\n"):
        with closing(alone.connect()) as connection:
            connection.sendall(HEAD + length + body)
            if b"chunked" in length:
                connection.sendall(b"\r\n0\r\n\r\n")
            assert read_reply(connection).status == 413


def test_a_request_of_another_version_of_http_is_refused(alone: Gateway) -> None:
    for version in (b"0.9", b"1.2", b"2.0", b"3.0"):
        for line in (b"GET /healthz", b"POST /v1/recommendations"):
            reply = alone.send(line + b" HTTP/" + version + b"\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n")
            assert (reply.status, reply.json()["error"], reply.closed) == (400, "bad_request", True), (version, line)


def test_unknown_paths_and_methods_are_counted_as_refused(alone: Gateway) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/v1/exposures", 405)):
        before = alone.metric("recommender_refusals_total", status=str(status))
        assert alone.client.request(method, path).status_code == status
        assert alone.metric("recommender_refusals_total", status=str(status)) == before + 1


def test_100_headers_are_taken_and_101_are_not(alone: Gateway) -> None:
    for extra, status in ((96, 200), (97, 431)):
        lines = b"".join(b"X-%d: x\r\n" % number for number in range(extra))
        reply = alone.send(HEAD + WITH_LENGTH + b"Connection: close\r\n" + lines + b"\r\n" + BODY)
        assert reply.status == status, (extra, reply)


def test_a_large_body_is_no_large_head(alone: Gateway) -> None:
    body = json.dumps({"user_id": "1", "campaign_ids": ["c" * 190] * 500}).encode()
    assert len(body) > MAX_HEAD_BYTES
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with closing(alone.connect()) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert read_reply(connection).status == 200
            connection.settimeout(20)


def test_requests_that_are_sent_ahead_are_answered_in_their_order(alone: Gateway) -> None:
    bad = b'{"user_id": ""} '
    with closing(alone.connect()) as connection:
        connection.sendall(b"".join(HEAD + WITH_LENGTH + b"\r\n" + body for body in (BODY, bad, BODY, bad)))
        received = b""
        while received.count(b"HTTP/1.1") < 4 or not received.endswith(b"}"):
            received += connection.recv(65_536)
    statuses = [int(part.split()[0]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 422, 200, 422]


def test_a_head_that_does_not_arrive_is_cut_off(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.5)
    with gateway_in_a_thread(home) as running, ExitStack() as stack:
        begun, silent = (stack.enter_context(closing(running.connect())) for _ in range(2))
        begun.sendall(HEAD)
        reply = read_reply(begun)
        assert (reply.status, reply.json()["error"], reply.closed) == (408, "timeout", True)
        assert silent.recv(1) == b"", "a connection that sends nothing is closed without an answer"
        assert running.ask().status_code == 200


def test_half_open_connections_make_room_for_new_ones(home: Settings) -> None:
    with gateway(home, max_connections=16) as running, ExitStack() as stack:
        kept = running.connect()
        stack.enter_context(closing(kept))
        request = HEAD + WITH_LENGTH + b"\r\n" + BODY
        kept.sendall(request)
        assert read_reply(kept).status == 200
        for _ in range(60):
            half_open = stack.enter_context(closing(running.connect()))
            half_open.sendall(b"POST ")
        assert running.send(request).status == 200
        kept.settimeout(20)
        kept.sendall(request)
        assert read_reply(kept).status == 200, "a client that asked before keeps its connection"
        assert running.metric("recommender_shed_connections_total") >= 40
        assert running.metric("recommender_connections") <= 16


def test_a_request_that_asks_for_http_2_is_answered_in_http_1(alone: Gateway) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    request = HEAD + WITH_LENGTH + upgrade + b"\r\n"
    reply = alone.send(request + BODY)
    assert (reply.status, reply.closed) == (200, True)
    with closing(alone.connect()) as connection:
        connection.sendall(request + BODY[:3])
        time.sleep(0.1)
        connection.sendall(BODY[3:])
        reply = read_reply(connection)
    assert (reply.status, reply.closed) == (200, True)
    assert alone.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n").status == 200


def test_a_body_without_a_content_type_is_refused(alone: Gateway) -> None:
    reply = alone.send(HEAD.replace(b"Content-Type: application/json\r\n", b"") + WITH_LENGTH + b"\r\n" + BODY)
    assert (reply.status, reply.json()["error"]) == (415, "unsupported_media_type")


def test_nothing_redirects_to_a_host_that_the_client_named(alone: Gateway) -> None:
    reply = alone.send(b"POST /v1/recommendations/ HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
    assert (reply.status, reply.json()["error"]) == (404, "not_found")
    assert "evil.example" not in reply.head
    assert PATH == "/v1/recommendations"
