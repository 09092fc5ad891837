"""Bad requests, sent to the running endpoint: a 4xx that says which field, and never a 500."""

import json

import httpx
import pytest
from conftest import Endpoint

BODIES = {
    "an empty list": (b'{"user_id": "1", "campaign_ids": []}', "campaign_ids"),
    "NaN": (b'{"user_id": "1", "num_items": NaN}', "num_items"),
    "NaN in the context": (b'{"user_id": "1", "context": {"price": NaN}}', "context.price"),
    "1e400": (b'{"user_id": "1", "num_campaigns": 1e400}', "num_campaigns"),
    "1e400 in the context": (b'{"user_id": "1", "context": {"price": 1e400}}', "context.price"),
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
