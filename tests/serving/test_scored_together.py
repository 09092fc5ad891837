"""Requests that leave together are scored by one call of the ranker, and each gets the answer that it gets alone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import Shop, candidate

from recommender.matching.rerank import Rerank
from recommender.policies.exploration import Exploration
from serving import wire
from serving.request import PROBE, RecommendationRequest, ScoringRequest
from serving.shop import Shop as ServedShop
from serving.worker.answering import Answering
from serving.worker.bodies import respond, respond_all


@pytest.fixture(scope="module")
def answering(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    folder = tmp_path_factory.mktemp("together")
    loaded = candidate(shop, folder / "candidate") / "fits" / "live"
    made = Answering(shop.settings.updated(serving={"state": folder / "state"}), "v1", loaded)
    yield made
    made.close()


@pytest.fixture
def calls(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs the ranker got in each call."""
    real, found = answering.ranker.ranked, []

    def ranked(examples: Any) -> Any:
        found.append(len(examples.campaigns_N))
        return real(examples)

    monkeypatch.setattr(answering.ranker, "ranked", ranked)
    return found


def body(answering: Answering, shop: Shop, user: str, *, lost: int = 0, **asked: Any) -> bytes:
    """A body of the gateway, whose features have lost their last bytes."""
    decided = {name: asked.pop(name) for name in ("exploration", "rerank", "allow_repeats") if name in asked}
    packed = answering.online_store.read(user)
    assert packed is not None
    request = RecommendationRequest(user_id=user, **asked)
    as_of_us = round(shop.as_of.timestamp() * 1e6)
    features = packed.content[: len(packed.content) - lost] + bytes(lost)
    return wire.encode(ScoringRequest(request=request, as_of_us=as_of_us, **decided), features, answering.key)


def of_every_kind(answering: Answering, shop: Shop) -> list[bytes]:
    live = [shop.catalogue.campaign_ids[row] for row in shop.catalogue.live(round(shop.as_of.timestamp() * 1e6))]
    options: list[dict[str, Any]] = [
        {},
        {"explain": True, "num_campaigns": 1},
        {"campaign_ids": [live[-1], "nowhere", live[0]]},
        {"exclude_campaign_ids": live[:1], "num_items": 0},
        {"exclude_campaign_ids": live, "explain": True},
        {"allow_repeats": True},
        {"exploration": Exploration(kind="epsilon", rate=0.5, seed="seed")},
        {"rerank": Rerank(kind="calibrated", trade_off=0.5), "explain": True},
        {"rerank": Rerank(kind="mmr", trade_off=0.3)},
    ]
    users = shop.users[: 2 * len(options)]
    bodies = [body(answering, shop, user, **options[place % len(options)]) for place, user in enumerate(users)]
    return [*bodies, orjson.dumps({**PROBE, "return_features": True}), orjson.dumps({"user_id": "nobody"})]


def test_each_gets_the_bits_that_it_gets_alone_in_the_order_in_which_it_was_asked(
    answering: Answering, shop: Shop, calls: list[int]
) -> None:
    bodies = of_every_kind(answering, shop)
    alone = [respond(answering, one) for one in bodies]
    assert len({document for _, document in alone}) == len(bodies) - 1  # two have no candidate, and so the same answer
    calls.clear()
    status, content = respond(answering, wire.encode_batch(bodies))
    assert status == 200
    assert wire.decode_answers(content) == alone
    assert len(calls) == 1
    assert respond_all(answering, bodies) == alone
    assert len(calls) == 2


@pytest.mark.parametrize("poison", ["damaged features", "wrong key", "too late", "not JSON", "wrong field", "cut off"])
def test_one_that_cannot_be_answered_fails_alone(answering: Answering, shop: Shop, poison: str) -> None:
    good = [body(answering, shop, user) for user in shop.users[:4]]
    of_others = body(answering, shop, shop.users[4])
    key_at = of_others.index(answering.key)
    asked = ScoringRequest(request=RecommendationRequest(user_id="x"), as_of_us=0, answer_by_us=1)
    bad, expected = {
        "damaged features": (body(answering, shop, shop.users[4], lost=40), 503),
        "wrong key": (of_others[:key_at] + bytes(wire.KEY_BYTES) + of_others[key_at + wire.KEY_BYTES :], 403),
        "too late": (wire.encode(asked, b"", answering.key), 503),
        "not JSON": (b"{", 400),
        "wrong field": (b'{"user_id": 3}', 400),
        "cut off": (of_others[:30], 400),
    }[poison]
    _, content = respond(answering, wire.encode_batch([*good[:2], bad, *good[2:]]))
    answers = wire.decode_answers(content)
    assert [status for status, _ in answers] == [200, 200, expected, 200, 200]
    assert [answers[place] for place in (0, 1, 3, 4)] == [respond(answering, one) for one in good]


def test_a_user_that_only_the_ranker_cannot_score_fails_alone(
    answering: Answering, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [body(answering, shop, user) for user in shop.users[:3]]
    alone, real = [respond(answering, one) for one in bodies], answering.ranker.ranked
    seen: list[bytes] = []

    def ranked(examples: Any) -> Any:
        seen.append(examples.features_NF.tobytes())
        return real(examples)

    def poisoned(examples: Any) -> Any:
        redeem_N, contributions = real(examples)
        return np.full_like(redeem_N, np.nan) if seen[0] in examples.features_NF.tobytes() else redeem_N, contributions

    monkeypatch.setattr(answering.ranker, "ranked", ranked)
    respond(answering, bodies[1])
    monkeypatch.setattr(answering.ranker, "ranked", poisoned)
    answers = wire.decode_answers(respond(answering, wire.encode_batch(bodies))[1])
    assert [status for status, _ in answers] == [200, 503, 200]
    assert [answers[0], answers[2]] == [alone[0], alone[2]]
    assert "NaN" in json.loads(answers[1][1])["message"]


@pytest.mark.parametrize("content", [b"B", b"B\x02\x00\x00\x00", wire.encode_batch([b"F"])[:-1]])
def test_a_batch_that_cannot_be_read_is_refused(answering: Answering, content: bytes) -> None:
    status, document = respond(answering, content)
    assert (status, json.loads(document)["error"]) == (400, "invalid_request")


def test_a_batch_in_a_batch_is_no_request(answering: Answering, shop: Shop) -> None:
    good = body(answering, shop, shop.users[0])
    _, content = respond(answering, wire.encode_batch([wire.encode_batch([good]), good]))
    assert [status for status, _ in wire.decode_answers(content)] == [400, 200]


def test_a_new_catalogue_is_answered_from_at_once(answering: Answering, shop: Shop) -> None:
    content = wire.encode_batch([body(answering, shop, user) for user in shop.users[:2]])
    before = wire.decode_answers(respond(answering, content)[1])
    current = answering.shops.current
    assert current is not None
    catalogue = current.catalogue
    renamed = replace(catalogue, campaign_names=tuple(f"{name} again" for name in catalogue.campaign_names))
    try:
        answering.shops.current = ServedShop(
            replace(renamed, campaign_popularity_C=catalogue.campaign_popularity_C / 2)
        )
        after = wire.decode_answers(respond(answering, content)[1])
    finally:
        answering.shops.current = current
    for (_, old), (_, new) in zip(before, after, strict=True):
        pairs = list(zip(json.loads(old)["campaigns"], json.loads(new)["campaigns"], strict=True))
        assert pairs
        for was, now in pairs:
            assert now["name"] == f"{was['name']} again"
            assert now["base_rate"] == pytest.approx(was["base_rate"] / 2)
    assert wire.decode_answers(respond(answering, content)[1]) == before
