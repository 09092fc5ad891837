"""The Python client against a running endpoint, and against servers that close, refuse, delay and lie."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from conftest import Endpoint
from pydantic import BaseModel
from recommender_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    Recommendations,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
)
from recommender_client import answers as typed

from recommender.decision_tables import read_exposures
from serving.gateway.app import create

Serve = Callable[[socket.socket], None]
"""What a fake server does with one connection."""
ANSWER = (
    b'{"request_id": "r", "campaigns": [], "model_version": "popular", "score_population": "known_users", '
    b'"variant": "champion", "as_of": "2026-01-01T00:00:00+00:00", "feature_age_s": null, "cold_start": true, '
    b'"degraded": false, "degraded_reasons": [], "dropped_campaign_ids": []}'
)


@contextmanager
def server(*connections: Serve) -> Iterator[str]:
    """A server whose n-th connection is treated by the n-th function, later ones by the last."""
    listening = socket.create_server(("127.0.0.1", 0))
    count = 0

    def accept() -> None:
        nonlocal count
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            treat = connections[min(count, len(connections) - 1)]
            count += 1
            threading.Thread(target=_treated, args=(treat, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def _treated(treat: Serve, connection: socket.socket) -> None:
    with connection:
        treat(connection)


def _receive(connection: socket.socket) -> bytes:
    """One whole request."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return b""
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split()[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head


def responds(body: bytes, status: str = "200 OK", headers: str = "", *, times: int = 1000) -> Serve:
    """Answer a number of requests on the connection, and then close it without a word."""

    def treat(connection: socket.socket) -> None:
        for _ in range(times):
            if not _receive(connection):
                return
            head = (
                f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
            )
            connection.sendall(head.encode() + body)

    return treat


def test_a_known_user_is_answered_with_types_and_the_exposure_is_recorded(endpoint: Endpoint) -> None:
    with Client(endpoint.deployment.url, deadline_s=20) as client:
        answer = client.recommend(
            endpoint.shop.users[0], num_campaigns=2, num_items=3, explain=True, context={"page": "home", "slot": 2}
        )
        assert 0 < len(answer.campaigns) <= 2
        assert {len(campaign.items) for campaign in answer.campaigns} == {3}
        assert answer.score_population == "this_user"
        assert {one.campaign_id for one in answer.explanations} >= {one.campaign_id for one in answer.campaigns}
        assert answer.request_id is not None
        assert endpoint.decision(answer.request_id)["context"] == {"page": "home", "slot": 2}
        first = answer.campaigns[0].campaign_id
        client.expose(answer, [first])
    recorded = read_exposures(endpoint.settings)
    assert [first] in [list(one["campaign_ids"]) for one in recorded if one["request_id"] == answer.request_id]


def test_the_client_for_asyncio_gives_the_same_answer(endpoint: Endpoint) -> None:
    async def both() -> tuple[Recommendations, Recommendations]:
        async with AsyncClient(endpoint.deployment.url, deadline_s=20) as client:
            one, two = await asyncio.gather(*(client.recommend(endpoint.shop.users[0]) for _ in range(2)))
            await client.expose(one)
            return one, two

    one, two = asyncio.run(both())
    assert one.campaigns == two.campaigns
    assert one.request_id != two.request_id


def test_what_is_wrong_with_a_request_is_an_error_of_its_own(endpoint: Endpoint) -> None:
    with Client(endpoint.deployment.url, deadline_s=20) as client:
        with pytest.raises(InvalidRequest) as refused:
            client.recommend("1", num_campaigns=0)
        assert [problem.field for problem in refused.value.fields] == ["num_campaigns"]
        with pytest.raises(UnknownRequest):
            client.expose("20260101-000000000000-0.0.0000000000000000")


def test_the_models_have_every_field_of_the_gateways_description(endpoint: Endpoint) -> None:
    schemas = create(endpoint.settings).openapi()["components"]["schemas"]
    ours: dict[str, type[BaseModel]] = {
        "Recommendations": typed.Recommendations,
        "Campaign": typed.Campaign,
        "Item": typed.Item,
        "Explanation": typed.Explanation,
        "Problem": typed.Problem,
        "Refusal": typed.Refusal,
    }
    for name, model in ours.items():
        assert set(model.model_fields) == set(schemas[name]["properties"]), name
    arguments = set(Client.recommend.__annotations__) - {"return", "deadline_s", "headers"}
    assert arguments == set(schemas["RecommendationRequest"]["properties"])


def test_a_connection_that_the_server_closed_while_idle_is_replaced_without_an_error() -> None:
    with server(responds(ANSWER, times=1), responds(ANSWER)) as url, Client(url) as client:
        assert client.recommend("1").request_id == "r"
        time.sleep(0.05)
        assert client.recommend("1").request_id == "r"


def test_a_refusal_for_now_is_tried_again_after_the_time_that_it_names() -> None:
    refused = responds(
        b'{"error": "busy", "message": "later"}', "503 Service Unavailable", "retry-after: 0\r\n", times=1
    )
    with server(refused, responds(ANSWER)) as url, Client(url) as client:
        assert client.recommend("1").request_id == "r"
    late = responds(b'{"error": "busy", "message": "later"}', "503 Service Unavailable", "retry-after: 60\r\n")
    with server(late) as url, Client(url, deadline_s=20) as client:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="later") as error:
            client.recommend("1")
        assert (error.value.status, error.value.retry_after_s) == (503, 60.0)
        assert time.monotonic() - started < 10, "it waited although the deadline leaves no time for another attempt"


def test_a_service_that_stays_away_is_tried_as_often_as_said() -> None:
    seen = []

    def close(connection: socket.socket) -> None:
        seen.append(_receive(connection))

    with server(close) as url, Client(url, attempts=3) as client, pytest.raises(Unavailable):
        client.recommend("1")
    assert len(seen) == 3


def test_a_service_that_says_nothing_costs_no_more_than_the_deadline() -> None:
    ended = threading.Event()

    def wait(connection: socket.socket) -> None:
        _receive(connection)
        ended.wait(60)

    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            await client.recommend("1", deadline_s=0.2)

    with server(wait) as url:
        for call in (lambda: Client(url, deadline_s=0.2).recommend("1"), lambda: asyncio.run(ask(url))):
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                call()
            assert 0.15 < time.monotonic() - started < 20
    ended.set()


def test_a_rotated_token_is_sent_and_a_wrong_one_is_not_tried_again() -> None:
    heads: list[bytes] = []

    def refuse(connection: socket.socket) -> None:
        heads.append(_receive(connection))
        body = b'{"error": "unauthorized", "message": "no"}'
        head = f"HTTP/1.1 401 Unauthorized\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    tokens = iter(["old", "new"])
    with server(refuse) as url, Client(url, token=lambda: next(tokens)) as client:
        for _ in range(2):
            with pytest.raises(Unauthorized):
                client.recommend("1")
    assert [b"bearer old" in head.lower() for head in heads] == [True, False]
    assert b"Bearer new" in heads[1]


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b'{"status": "ok"}'])
def test_an_answer_of_another_service_is_named(body: bytes) -> None:
    with server(responds(body)) as url, Client(url) as client, pytest.raises(UnexpectedAnswer, match="v1/recommend"):
        client.recommend("1")


def test_an_answer_without_a_record_cannot_be_confirmed() -> None:
    unrecorded = ANSWER.replace(b'"r"', b"null")
    with server(responds(unrecorded)) as url, Client(url) as client:
        answer = client.recommend("1")
        with pytest.raises(ValueError, match="request_id"):
            client.expose(answer)
