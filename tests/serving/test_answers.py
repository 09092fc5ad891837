"""What a running endpoint answers."""

from datetime import datetime

import httpx
from conftest import Endpoint

from recommender.datasets.periods import microseconds
from recommender.decision_tables import read_exposures
from recommender.decisions.assignment import assign


def test_a_known_user_gets_ranked_campaigns_with_items_and_reasons(endpoint: Endpoint) -> None:
    response = endpoint.ask(user_id=endpoint.shop.users[0], num_campaigns=3, num_items=4)
    assert response.status_code == 200, response.text
    answer = response.json()
    scores = [campaign["score"] for campaign in answer["campaigns"]]
    assert 1 < len(scores) <= 3
    assert scores == sorted(scores, reverse=True)
    assert (answer["cold_start"], answer["degraded"], answer["feature_age_s"]) == (False, False, 0.0)
    for campaign in answer["campaigns"]:
        assert campaign["campaign_id"] in endpoint.shop.live()
        assert len(campaign["items"]) == 4
        assert campaign["reasons"]
    assert any("You" in reason for campaign in answer["campaigns"] for reason in campaign["reasons"])


def test_every_answer_leaves_a_record_with_variant_and_propensity(endpoint: Endpoint) -> None:
    variants = set()
    for user in endpoint.shop.users[:12]:
        answer = endpoint.ask(user_id=user, context={"page": "home", "slot": 2}).json()
        record = endpoint.decision(answer["request_id"])
        expected = assign(user, salt=endpoint.settings.serving.assignment_salt, canary_share=0.5)
        assert (record["variant"], record["propensity"]) == (expected.variant, expected.propensity)
        assert record["model_version"] == answer["model_version"] == record["assigned_version"]
        assert record["user_id"] == user
        assert record["context"] == {"page": "home", "slot": 2}
        assert record["as_of"] == answer["as_of"]
        assert [(c["campaign_id"], c["score"]) for c in record["campaigns"]] == [
            (c["campaign_id"], c["score"]) for c in answer["campaigns"]
        ]
        variants.add(answer["variant"])
    assert variants == {"champion", "canary"}


def test_an_unknown_user_gets_popular_campaigns_and_cold_start(endpoint: Endpoint) -> None:
    answer = endpoint.ask(user_id="never seen").json()
    assert (answer["cold_start"], answer["degraded"], answer["model_version"]) == (True, False, "popular")
    assert {campaign["campaign_id"] for campaign in answer["campaigns"]} == set(endpoint.shop.live())
    assert answer["score_population"] == "known_users"
    shop, moment_us = endpoint.shop.catalogue, microseconds(datetime.fromisoformat(answer["as_of"]))
    rows, _ = shop.rows([campaign["campaign_id"] for campaign in answer["campaigns"]])
    assert [campaign["score"] for campaign in answer["campaigns"]] == shop.newcomer_scores(rows, moment_us).tolist()
    known = endpoint.ask(user_id=endpoint.shop.users[0]).json()
    assert known["score_population"] == "this_user"
    rates = {campaign["campaign_id"]: campaign["base_rate"] for campaign in answer["campaigns"]}
    assert all(campaign["base_rate"] == rates[campaign["campaign_id"]] for campaign in known["campaigns"])
    assert endpoint.predict({"user_id": "never seen"}).json()["score_population"] == "known_users"
    assert endpoint.decision(answer["request_id"])["cold_start"] is True


def test_unknown_and_ended_campaigns_are_dropped_and_listed(endpoint: Endpoint) -> None:
    live = endpoint.shop.live()
    ended = next(name for name in endpoint.shop.catalogue.campaign_ids if name not in live)
    for user in (endpoint.shop.users[0], "never seen"):
        answer = endpoint.ask(user_id=user, campaign_ids=[live[0], "no such", ended]).json()
        assert [campaign["campaign_id"] for campaign in answer["campaigns"]] == [live[0]]
        assert answer["dropped_campaign_ids"] == ["no such", ended]


def test_a_campaign_that_the_user_has_taken_up_is_not_recommended_again(endpoint: Endpoint) -> None:
    user, campaign = sorted(endpoint.shop.taken_up())[0]
    answer = endpoint.ask(user_id=user).json()
    assert campaign not in [one["campaign_id"] for one in answer["campaigns"]]
    named = endpoint.ask(user_id=user, campaign_ids=[campaign]).json()
    assert (named["campaigns"], named["dropped_campaign_ids"]) == ([], [campaign])
    direct = endpoint.predict({"user_id": user, "explain": True}).json()
    assert {one["campaign_id"]: one["stage"] for one in direct["explanations"]}[campaign] == "taken_up"


def test_excluded_campaigns_are_left_out_and_recorded(endpoint: Endpoint) -> None:
    live = endpoint.shop.live()
    for user in (endpoint.shop.users[0], "never seen"):
        everything = endpoint.ask(user_id=user).json()["campaigns"]
        first = everything[0]["campaign_id"]
        answer = endpoint.ask(user_id=user, exclude_campaign_ids=[first, "no such"]).json()
        assert answer["campaigns"] == everything[1:]
        assert answer["dropped_campaign_ids"] == []
        assert endpoint.decision(answer["request_id"])["excluded"] == [first, "no such"]
        named = endpoint.ask(user_id=user, campaign_ids=live, exclude_campaign_ids=[first]).json()
        assert named["dropped_campaign_ids"] == [first]


def test_an_explanation_gives_every_campaign_s_place_or_the_stage_at_which_it_dropped_out(endpoint: Endpoint) -> None:
    catalogue, live = endpoint.shop.catalogue, endpoint.shop.live()
    later = catalogue.campaign_ids[int(catalogue.campaign_starts_C.argmax())]
    taken_up = {user for user, _ in endpoint.shop.taken_up()}
    known = next(user for user in endpoint.shop.users if user not in taken_up)
    for user in (known, "never seen"):
        request = {"user_id": user, "campaign_ids": [*live, later, "no such"], "num_campaigns": 1, "num_items": 2}
        plain = endpoint.ask(**request).json()
        assert "explanations" not in plain
        answer = endpoint.ask(**request, explain=True).json()
        assert answer["campaigns"] == plain["campaigns"]
        explanations = answer["explanations"]
        assert [one["stage"] for one in explanations] == [
            *("shown", *["ranked_below"] * (len(live) - 1)),
            *("unknown", "not_started"),
        ]
        ranked = explanations[: len(live)]
        assert [one["place"] for one in ranked] == list(range(1, len(live) + 1))
        assert [one["score"] for one in ranked] == sorted((one["score"] for one in ranked), reverse=True)
        assert all(one["reasons"] for one in ranked)
        assert ranked[0]["reasons"] == answer["campaigns"][0]["reasons"]
        assert (ranked[0]["contributions"] is None) == (user == "never seen")
        assert "explain" not in endpoint.decision(answer["request_id"])


def test_no_answer_repeats_the_name_of_an_item(endpoint: Endpoint) -> None:
    for user in (*endpoint.shop.users[:10], "never seen"):
        for campaign in endpoint.ask(user_id=user, num_items=8).json()["campaigns"]:
            names = [item["name"] for item in campaign["items"]]
            assert len(set(names)) == len(names) > 0


def test_an_exposure_confirms_a_decision(endpoint: Endpoint) -> None:
    answer = endpoint.ask(user_id=endpoint.shop.users[1]).json()
    response = endpoint.client.post("/v1/exposures", json={"request_id": answer["request_id"]})
    assert response.status_code == 200, response.text
    shown = {e["request_id"]: e["campaign_ids"] for e in read_exposures(endpoint.settings)}
    assert shown[answer["request_id"]] == [campaign["campaign_id"] for campaign in answer["campaigns"]]


def test_an_exposure_of_an_unknown_request_is_a_404(endpoint: Endpoint) -> None:
    response = endpoint.client.post("/v1/exposures", json={"request_id": "no such"})
    assert response.status_code == 404
    assert response.json()["error"] == "unknown_request"


def test_ready_means_that_a_real_prediction_works(endpoint: Endpoint) -> None:
    assert endpoint.client.get("/healthz").status_code == 200
    ready = endpoint.client.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert ready.json()["details"]["champion"].startswith("logistic-")


def test_metrics_count_answers_by_variant(endpoint: Endpoint) -> None:
    endpoint.ask(user_id="never seen either")
    text = endpoint.client.get("/metrics").text
    assert "recommender_cold_starts_total" in text
    assert 'recommender_request_seconds_bucket{le="0.01",variant="champion"}' in text


def test_the_openapi_document_describes_requests_answers_and_refusals(endpoint: Endpoint) -> None:
    document = endpoint.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/recommendations"]["post"]
    assert {"200", "401", "413", "415", "422", "503"} <= set(operation["responses"])
    schemas = document["components"]["schemas"]
    assert schemas["RecommendationRequest"]["properties"]["num_campaigns"]["maximum"] == 100
    assert schemas["RecommendationRequest"]["additionalProperties"] is False
    text = str(document)
    for name in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas, f"{name} is referred to and not there"


def test_torchserve_s_own_contract_works_and_names_the_version(endpoint: Endpoint) -> None:
    user = endpoint.shop.users[0]
    direct = endpoint.predict({"user_id": user, "num_items": 2})
    assert direct.status_code == 200, direct.text
    champion = endpoint.client.get("/readyz").json()["details"]["champion"]
    assert direct.json()["model_version"] == champion
    assert "request_id" not in direct.json()
    bad = endpoint.predict({"user_id": user, "zzz": 1})
    assert bad.status_code == 400
    assert bad.json()["fields"][0]["field"] == "zzz"


def test_torchserve_s_management_listens_on_loopback_only(endpoint: Endpoint) -> None:
    from pathlib import Path

    port = f"{endpoint.settings.serving.management_port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, listens = line.split()[1], line.split()[3] == "0A"
            if listens and address.endswith(f":{port}"):
                assert address.split(":")[0] in ("0100007F", "0000000000000000FFFF00000100007F")
    url = f"http://127.0.0.1:{endpoint.settings.serving.management_port}/models"
    refused = httpx.post(url, params={"url": "http://127.0.0.1:1/evil.mar"}, timeout=10)
    assert refused.status_code in (400, 403, 404), refused.text
