"""Answers without a campaign are counted by their cause."""

from datetime import timedelta

from gateways import gateway

from recommender.settings import Settings

NAME = "recommender_empty_answers_total"


def test_an_answer_without_a_campaign_says_in_the_metrics_whether_any_campaign_is_live(home: Settings) -> None:
    with gateway(home) as running:
        assert running.ask().json()["campaigns"]
        assert running.metric(NAME) == 0
        named = {"user_id": "1", "campaign_ids": ["no such"]}
        assert running.client.post("/v1/recommendations", json=named).json()["campaigns"] == []
        assert (running.metric(NAME, reason="no_candidate"), running.metric(NAME)) == (1, 1)


def test_a_shop_without_a_live_campaign_is_known_by_its_metric(home: Settings) -> None:
    assert home.time.as_of is not None
    later = home.updated(time={"as_of": home.time.as_of + timedelta(days=3_650)})
    with gateway(later) as running:
        assert running.ask().json()["campaigns"] == []
        assert (running.metric(NAME, reason="no_live_campaign"), running.metric(NAME)) == (1, 1)
