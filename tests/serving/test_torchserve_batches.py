"""TorchServe asked directly takes batches of users, in KServe's protocol v1 and in the Open Inference Protocol v2."""

import json
from typing import Any

import httpx
import pytest
from conftest import Endpoint

from serving.worker.tensors import MOST_USERS


def post(endpoint: Endpoint, path: str, document: dict[str, Any]) -> httpx.Response:
    url = f"http://127.0.0.1:{endpoint.settings.serving.inference_port}{path}"
    return endpoint.client.post(url, json=document, timeout=20)


def ids(document: dict[str, Any]) -> list[str]:
    return [one["campaign_id"] for one in document["campaigns"]]


@pytest.mark.parametrize("path", ["/v1/models/campaign_ranker:predict", "/predictions/campaign_ranker"])
def test_instances_are_answered_one_by_one(endpoint: Endpoint, path: str) -> None:
    users = [*endpoint.shop.users[:3], "nobody"]
    answer = post(endpoint, path, {"instances": [{"user_id": user, "num_campaigns": 2} for user in users]})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [one["cold_start"] for one in predictions] == [False, False, False, True]
    for user, prediction in zip(users, predictions, strict=True):
        assert ids(prediction) == ids(endpoint.predict({"user_id": user, "num_campaigns": 2}).json())
        assert prediction["decision_recorded"] is False


@pytest.mark.parametrize("path", ["/v2/models/campaign_ranker/infer", "/predictions/campaign_ranker"])
def test_tensors_are_answered_one_by_one(endpoint: Endpoint, path: str) -> None:
    users = endpoint.shop.users[:2]
    elements = [json.dumps({"user_id": users[0]}), '{"user_id": 3}', json.dumps({"user_id": users[1]})]
    tensor = {"name": "requests", "datatype": "BYTES", "shape": [3], "data": elements}
    answer = post(endpoint, path, {"id": "of-the-caller", "inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    outputs = {one["name"]: one for one in document["outputs"]}
    assert (document["id"], document["model_name"]) == ("of-the-caller", "campaign_ranker")
    assert outputs["statuses"] == {"name": "statuses", "datatype": "INT32", "shape": [3], "data": [200, 400, 200]}
    first, refused, third = (json.loads(one) for one in outputs["answers"]["data"])
    assert [ids(first), ids(third)] == [ids(endpoint.predict({"user_id": user}).json()) for user in users]
    assert [one["field"] for one in refused["fields"]] == ["user_id"]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"instances": []}, "instances"),
        ({"instances": [{"user_id": "1"}, {"user_id": "1", "num_items": 51}]}, "instances.1.num_items"),
        ({"instances": [{"user_id": "1", "context": {"page": []}}]}, "instances.0.context.page"),
        ({"instances": [{"user_id": "1"}] * (MOST_USERS + 1)}, "instances"),
        ({"instances": [{"user_id": "1"}], "colour": 1}, "colour"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["{}"]}]}, "inputs.0.name"),
        ({"inputs": [{"name": "requests", "datatype": "FP32", "shape": [1], "data": ["{}"]}]}, "inputs.0.datatype"),
        ({"inputs": [{"name": "requests", "datatype": "BYTES", "shape": [2], "data": ["{}"]}]}, "inputs.0"),
    ],
)
def test_a_wrong_batch_is_refused_as_a_whole(endpoint: Endpoint, document: dict[str, Any], field: str) -> None:
    answer = post(endpoint, "/predictions/campaign_ranker", document)
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["fields"]] == [field]


def test_a_request_whose_context_speaks_of_instances_is_no_batch(endpoint: Endpoint) -> None:
    user = endpoint.shop.users[0]
    answer = endpoint.predict({"user_id": user, "context": {"instances": "3", "inputs": "none"}})
    assert answer.status_code == 200
    assert ids(answer.json()) == ids(endpoint.predict({"user_id": user}).json())


def test_the_gateway_s_format_is_not_taken_from_others(endpoint: Endpoint) -> None:
    from serving import wire
    from serving.request import RecommendationRequest, ScoringRequest

    asked = ScoringRequest(request=RecommendationRequest(user_id="1"), as_of_us=0)
    url = f"http://127.0.0.1:{endpoint.settings.serving.inference_port}/predictions/campaign_ranker"
    content = wire.encode(asked, b"", bytes(wire.KEY_BYTES))
    answer = httpx.post(url, content=content, headers={"Content-Type": "application/octet-stream"}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
