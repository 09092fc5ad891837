"""Bad requests, sent to the running endpoint: a 4xx that says which field, and never a 500."""

import asyncio
import json

import httpx
import pytest
from conftest import Endpoint
from gateways import gateway_in_a_thread

from recommender.settings import Settings
from serving.gateway import app as gateway
from serving.gateway import intake
from serving.gateway.recommendations import Recommender

BODIES = {
    "an empty list": (b'{"user_id": "1", "campaign_ids": []}', "campaign_ids"),
    "NaN": (b'{"user_id": "1", "num_items": NaN}', "num_items"),
    "NaN in the context": (b'{"user_id": "1", "context": {"price": NaN}}', "context.price"),
    "1e400": (b'{"user_id": "1", "num_campaigns": 1e400}', "num_campaigns"),
    "1e400 in the context": (b'{"user_id": "1", "context": {"price": 1e400}}', "context.price"),
    "a whole number beyond 64 bits": (b'{"user_id": "u", "context": {"a": 100000000000000000000}}', "context.a"),
    "a negative one": (b'{"user_id": "u", "context": {"a": -9223372036854775809}}', "context.a"),
    "one of 5,000 digits": (b'{"user_id": "u", "context": {"a": ' + b"9" * 5_000 + b"}}", "a"),
    "a number for a text": (b'{"user_id": 1}', "user_id"),
    "a text for a number": (b'{"user_id": "1", "num_items": "3"}', "num_items"),
    "a fraction": (b'{"user_id": "1", "num_items": 2.5}', "num_items"),
    "a null": (b'{"user_id": null}', "user_id"),
    "no user": (b"{}", "user_id"),
    "an empty user": (b'{"user_id": ""}', "user_id"),
    "an unknown field": (b'{"user_id": "1", "colour": "red"}', "colour"),
    "a wrong item in a list": (b'{"user_id": "1", "campaign_ids": ["a", 3]}', "campaign_ids.1"),
    "10,000 candidates": (json.dumps({"user_id": "1", "campaign_ids": ["c"] * 10_000}).encode(), "campaign_ids"),
    "too many campaigns": (b'{"user_id": "1", "num_campaigns": 101}', "num_campaigns"),
    "deep nesting": (b'{"user_id": "1", "context": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "context"),
    "invalid UTF-8": (b'{"user_id": "\xff\xfe"}', "user_id"),
    "half a surrogate pair": (b'{"user_id": "\\ud800"}', "user_id"),
    "a control character": (b'{"user_id": "a\\u0000b"}', "user_id"),
    "no JSON": (b"user_id=1", "body"),
    "an empty body": (b"", "body"),
    "an array": (b"[]", "body"),
    "a body that stops": (b'{"user_id": "1", "num_items": ', "num_items"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_and_its_field_is_named(endpoint: Endpoint, name: str) -> None:
    body, field = BODIES[name]
    response = endpoint.send(body)
    assert response.status_code == 422, response.text
    assert field in [problem["field"] for problem in response.json()["fields"]], response.text


def test_a_megabyte_is_too_large(endpoint: Endpoint) -> None:
    response = endpoint.send(b'{"user_id": "' + b"x" * 2**20 + b'"}')
    assert response.status_code == 413
    assert response.json()["fields"][0]["field"] == "body"


def test_a_body_that_does_not_arrive_is_a_408(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BODY_TIMEOUT_S", 0.5)
    head = (
        b"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    with gateway_in_a_thread(home) as running:
        reply = running.send(head + b'{"user_id": ')
        assert (reply.status, reply.json()["error"]) == (408, "timeout")
        assert running.metric("recommender_refusals_total", status="408") == 1


def test_an_exposure_that_points_past_its_segment_or_at_another_campaign_is_a_404(endpoint: Endpoint) -> None:
    answer = endpoint.ask(user_id="nobody").json()
    stem, offset, token = answer["request_id"].split(".")
    past = [f"{stem}.{'f' * digits}.{token}" for digits in (4, 8, 15, 16, 40)]
    for request_id in (*past, f"{stem}.{offset}.{'0' * len(token)}", f"{stem}..{token}"):
        response = endpoint.client.post("/v1/exposures", json={"request_id": request_id})
        assert (response.status_code, response.json()["error"]) == (404, "unknown_request"), request_id
    foreign = {"request_id": answer["request_id"], "campaign_ids": ["of another shop"]}
    assert endpoint.client.post("/v1/exposures", json=foreign).status_code == 404


def test_another_content_type_is_refused(endpoint: Endpoint) -> None:
    response = endpoint.client.post("/v1/recommendations", content=b"user_id=1", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


def test_another_path_or_method_is_refused_in_the_same_form(endpoint: Endpoint) -> None:
    assert endpoint.client.get("/nothing").json()["error"] == "not_found"
    assert endpoint.client.get("/v1/recommendations").json()["error"] == "method_not_allowed"


def test_a_refusal_echoes_nothing_of_a_value(endpoint: Endpoint) -> None:
    response = endpoint.send(b'{"user_id": "1", "num_items": "hunter2"}')
    assert "hunter2" not in response.text


@pytest.mark.parametrize("name", [name for name in BODIES if name not in ("an empty list",)])
def test_torchserve_answers_bad_input_with_a_4xx_of_that_item(endpoint: Endpoint, name: str) -> None:
    url = f"http://127.0.0.1:{endpoint.settings.serving.inference_port}/predictions/campaign_ranker"
    response = httpx.post(url, content=BODIES[name][0], headers={"Content-Type": "application/json"}, timeout=10)
    assert 400 <= response.status_code < 500, response.text


DIRECT = {
    "before the year 1": (b'{"user_id": "1", "as_of": "0001-01-01T00:00:00+14:00"}', "as_of"),
    "after the year 9999": (b'{"user_id": "1", "as_of": "9999-12-31T23:59:59-14:00"}', "as_of"),
    "the last microsecond": (b'{"user_id": "1", "as_of": "9999-12-31T23:59:59.999999+00:00"}', "as_of"),
    "a short body of the gateway": (b"FOO", "body"),
    "one that is cut off": (b"F\xff\x00\x00\x00{}", "body"),
    "one without words": (b"F\x02\x00\x00\x00[]", "body"),
    "one without a user": (b"F\x02\x00\x00\x00{}", "body"),
}


@pytest.mark.parametrize("name", DIRECT)
def test_torchserve_names_the_field_of_what_only_it_accepts(endpoint: Endpoint, name: str) -> None:
    body, field = DIRECT[name]
    url = f"http://127.0.0.1:{endpoint.settings.serving.inference_port}/predictions/campaign_ranker"
    response = httpx.post(url, content=body, headers={"Content-Type": "application/octet-stream"}, timeout=10)
    assert response.status_code == 400, response.text
    assert [problem["field"] for problem in response.json()["fields"]] == [field]


def test_a_whole_number_may_be_written_with_a_zero_fraction_as_in_json_schema(endpoint: Endpoint) -> None:
    answer = endpoint.send(b'{"user_id": "nobody", "num_campaigns": 1.0, "num_items": 2e0}').json()
    assert [len(campaign["items"]) for campaign in answer["campaigns"]] == [2]
    document = endpoint.client.get("/openapi.json").json()
    number = document["components"]["schemas"]["RecommendationRequest"]["properties"]["num_campaigns"]
    assert (number["type"], number["minimum"], number["maximum"]) == ("integer", 1, 100)


def test_a_whole_number_of_64_bits_is_kept_in_the_decision(endpoint: Endpoint) -> None:
    context = {"most": 2**63 - 1, "least": -(2**63), "large": 1e20}
    response = endpoint.ask(user_id="u", context=context)
    assert response.status_code == 200, response.text
    assert endpoint.decision(response.json()["request_id"])["context"] == context


def test_what_nobody_foresaw_is_a_500_of_json(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> bytes:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Recommender, "recommend", fails)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(gateway.create(home), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.post("/v1/recommendations", json={"user_id": "1"})

    response = asyncio.run(ask())
    assert (response.status_code, response.json()["error"]) == (500, "internal")
    assert "secret" not in response.text
