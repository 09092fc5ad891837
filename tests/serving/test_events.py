"""POST /v1/events at a gateway without a model server: what is taken and refused, and what the next answer knows."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from conftest import Shop
from gateways import Gateway, copied_home, gateway
from recommender_client import Client, InvalidRequest

from feature_repo.materialisation import install_catalogue
from recommender.events.contract import BELONGS_TO, KINDS, NEEDS
from recommender.events.fold import Fold
from recommender.events.tail import Readings
from recommender.matching.affinity import UserAffinity, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import unpack
from recommender.storage.home import Home, ServingState
from recommender.storage.manifest import read_manifest
from serving.clock import decision_time_us
from serving.online_store.client import OnlineStoreClient

PATH = "/v1/events"


OPEN_DAYS = 30
"""Days before the moment of the rows that are open in this shop."""


@pytest.fixture(scope="module")
def running(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of a shop that states its currency, and whose days are closed after a while."""
    home = copied_home(shop, tmp_path_factory.mktemp("events") / "home")
    rules = shop.catalogue.event_rules
    assert rules is not None
    rules = replace(rules, currency="JPY", open_from=(shop.as_of - timedelta(days=OPEN_DAYS)).date().isoformat())
    content = {column.name: getattr(shop.catalogue, column.name) for column in fields(shop.catalogue)[1:]}
    folder = home.home.parent / "catalogue"
    Catalogue.versioned(**{**content, "event_rules": rules}).save(folder)
    install_catalogue(folder, Home.of(home), str(read_manifest(folder)["content_hash"]))
    with gateway(home) as one:
        yield one


def send(running: Gateway, *events: dict[str, Any]) -> httpx.Response:
    return running.client.post(PATH, json={"events": list(events)})


def event(number: str, kind: str, user: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": number, "kind": kind, "user_id": user, **fields}


def rows_of(running: Gateway, user: str) -> tuple[UserAffinity, UserAffinity]:
    """What a user bought by the row, and with the events since."""
    store, catalogue = OnlineStoreClient.open(running.settings), Catalogue.load(Home.of(running.settings).catalogue)
    try:
        row = store.read(user, 20.0)
        assert row is not None
        names, at_us = store.names_of(row), decision_time_us(running.settings)
    finally:
        store.close()
    folded = Fold(catalogue, Readings({})).folded(user, row, names, at_us)
    before, after = (unpack(user, content, {row.layout: names}) for content in (row.content, folded))
    return unpack_user(before.affinity, catalogue.numbering), unpack_user(after.affinity, catalogue.numbering)


def shown(running: Gateway, user: str) -> list[str]:
    return [one["campaign_id"] for one in running.ask(user).json()["campaigns"]]


def logged(running: Gateway) -> list[dict[str, Any]]:
    folders = (ServingState.of(running.settings).events, Home.of(running.settings).events)
    lines = [line for folder in folders for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_every_kind_of_the_contract_is_taken_and_is_in_the_log(running: Gateway, shop: Shop) -> None:
    item, campaign, user = shop.catalogue.item_ids[1], shop.live()[0], shop.users[0]
    values = {"item_id": item, "campaign_id": campaign, "query": "bread"}
    events = []
    for kind in KINDS:
        if kind in ("hide", "dislike", "participation"):
            continue  # what they change has a test of its own
        needed = {field: values[field] for field in NEEDS[kind][:1]}
        events.append(event(f"kind {kind}", kind, user, **needed))
    answer = send(running, *events)
    assert (answer.status_code, answer.json()["accepted"]) == (202, len(KINDS) - 3), answer.text
    ids = {line.get("event_id"): line for line in logged(running)}
    for one in events:
        assert ids[one["event_id"]].items() >= one.items()


@pytest.mark.parametrize("kind", ["hide", "dislike", "participation"])
def test_a_campaign_that_was_just_hidden_disliked_or_taken_up_is_no_candidate(
    running: Gateway, shop: Shop, kind: str
) -> None:
    place = ["hide", "dislike", "participation"].index(kind)
    taken = {user for user, _ in shop.taken_up()}
    user = [one for one in shop.users if one not in taken][10 + place]
    before = shown(running, user)
    answer = running.client.post(PATH, json=event(f"out {kind}", kind, user, campaign_id=before[0]))
    assert answer.status_code == 202
    assert shown(running, user) == [one for one in before if one != before[0]]
    explained = running.client.post("/v1/recommendations", json={"user_id": user, "explain": True}).json()
    stage = {one["campaign_id"]: one["stage"] for one in explained["explanations"]}[before[0]]
    assert stage == ("taken_up" if kind == "participation" else "hidden")
    if kind != "participation":
        assert send(running, event(f"again {kind}", "like", user, campaign_id=before[0])).status_code == 202
        assert shown(running, user) == before


@pytest.mark.parametrize("kind", ["hide", "dislike"])
def test_a_campaign_that_a_newcomer_hides_is_no_candidate_from_then_on(running: Gateway, shop: Shop, kind: str) -> None:
    newcomer = f"newcomer who will {kind}"
    before = shown(running, newcomer)
    out = event(f"new {kind}", kind, newcomer, campaign_id=before[0])
    assert running.client.post(PATH, json=out).json()["accepted"] == 1
    assert shown(running, newcomer) == [one for one in before if one != before[0]]
    assert send(running, event(f"new {kind} back", "like", newcomer, campaign_id=before[0])).status_code == 202
    assert shown(running, newcomer) == before


def test_a_campaign_that_a_newcomer_takes_up_is_no_candidate_from_then_on(running: Gateway, shop: Shop) -> None:
    newcomer = "newcomer who will take up"
    before = shown(running, newcomer)
    taken = event("new taken", "participation", newcomer, campaign_id=before[0])
    assert running.client.post(PATH, json=taken).json()["accepted"] == 1
    assert shown(running, newcomer) == [one for one in before if one != before[0]]
    asked = {"user_id": newcomer, "explain": True}
    explained = running.client.post("/v1/recommendations", json=asked).json()["explanations"]
    assert {one["campaign_id"]: one["stage"] for one in explained}[before[0]] == "taken_up"


def test_an_event_that_comes_again_changes_nothing(running: Gateway, shop: Shop) -> None:
    once = event("twice", "view", shop.users[1], item_id=shop.catalogue.item_ids[1])
    first, second = (running.client.post(PATH, json=once).json() for _ in range(2))
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 1)


WRONG = {
    "a future time": ({"event_time": (datetime.now(UTC) + timedelta(days=1)).isoformat()}, "event_time"),
    "a time without a zone": ({"event_time": "2017-03-01T10:00:00"}, "event_time"),
    "a time as a number": ({"event_time": 1_764_000_000_000}, "event_time"),
    "a time before computers": ({"event_time": "1017-03-01T10:00:00Z"}, "event_time"),
    "a negative amount": ({"amount": -1.0}, "amount"),
    "an amount in another unit": ({"amount": 99_999_999.0}, "amount"),
    "a discount in another unit": ({"discount": 99_999_999.0}, "discount"),
    "a quantity in another unit": ({"quantity": 900_000.0}, "quantity"),
    "an amount as text": ({"amount": "1.00"}, "amount"),
    "another currency": ({"currency": "EUR"}, "currency"),
    "milliseconds for seconds": ({"kind": "view", "dwell_s": 90_000.0}, "dwell_s"),
    "a rating of a purchase": ({"rating": 5.0}, "rating"),
    "no item": ({"item_id": None}, "item_id"),
    "an unknown kind": ({"kind": "stare"}, "kind"),
    "an unknown field": ({"colour": "red"}, "colour"),
    "no id": ({"event_id": None}, "event_id"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_event_is_refused_with_its_field(running: Gateway, shop: Shop, why: str) -> None:
    changes, field = WRONG[why]
    right = event(f"wrong {why}", "purchase", shop.users[2], item_id=shop.catalogue.item_ids[1])
    document = {name: value for name, value in {**right, **changes}.items() if value is not None}
    answer = running.client.post(PATH, json=document)
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["fields"]] == [field]
    assert not [line for line in logged(running) if line.get("event_id") == right["event_id"]]


def test_a_future_time_is_refused_with_the_present_moment_of_the_gateway(running: Gateway, shop: Shop) -> None:
    one = event("ahead", "search", shop.users[2], query="tea", event_time="2099-01-01T00:00:00Z")
    (problem,) = running.client.post(PATH, json=one).json()["fields"]
    assert problem["field"] == "event_time"
    assert f"{shop.as_of:%Y-%m-%dT%H:%M:%SZ}" in problem["problem"]


def test_amounts_are_in_the_currency_of_the_tables_also_where_it_has_no_cents(running: Gateway, shop: Shop) -> None:
    user = shop.users[5]
    bought = event("yen", "purchase", user, item_id=shop.catalogue.item_ids[1], amount=398.0, currency="JPY")
    assert running.client.post(PATH, json=bought).json()["accepted"] == 1
    before, after = rows_of(running, user)
    assert sum(after.cents[0]) - sum(before.cents[0]) == 398


def test_an_event_of_a_closed_day_is_set_aside_because_the_next_run_would_hold_it_back(
    running: Gateway, shop: Shop
) -> None:
    item, campaign, user = shop.catalogue.item_ids[1], shop.live()[0], shop.users[6]
    first_open = (shop.as_of - timedelta(days=OPEN_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    late = {"event_time": (first_open - timedelta(seconds=1)).isoformat()}
    answer = send(
        running,
        event("late", "view", user, item_id=item, **late),
        event("in time", "view", user, item_id=item, event_time=first_open.isoformat()),
        # No table of days holds it.
        event("hidden late", "hide", user, campaign_id=campaign, **late),
    ).json()
    assert [answer[name] for name in ("accepted", "quarantined")] == [2, 1]
    (problem,) = answer["problems"]
    assert (problem["index"], problem["field"]) == (0, "event_time")
    assert "recommender backfill" in problem["reason"]


def test_an_event_that_was_set_aside_and_comes_again_is_a_duplicate(running: Gateway) -> None:
    one = event("set aside", "search", "nobody", query="tea")
    first, second = (running.client.post(PATH, json=one).json() for _ in range(2))
    assert (first["quarantined"], first["duplicates"]) == (1, 0)
    assert (second["quarantined"], second["duplicates"], second["problems"]) == (0, 1, [])


def test_a_batch_takes_the_right_ones_and_names_the_wrong_and_the_unknown_ones(running: Gateway, shop: Shop) -> None:
    item = shop.catalogue.item_ids[1]
    answer = send(
        running,
        event("mixed 0", "view", shop.users[3], item_id=item),
        event("mixed 1", "view", "nobody", item_id=item),
        event("mixed 2", "view", shop.users[3], item_id="nothing"),
        event("mixed 3", "view", shop.users[3], campaign_id="none"),
        event("mixed 4", "purchase", shop.users[3], item_id=item, amount=-3.0),
    )
    assert answer.status_code == 202
    found = answer.json()
    assert [found[name] for name in ("accepted", "duplicates", "quarantined", "rejected")] == [1, 0, 3, 1]
    problems = [(one["index"], one["status"], one["field"]) for one in found["problems"]]
    unknown = [(place, "quarantined", field) for place, field in enumerate(("user_id", "item_id", "campaign_id"), 1)]
    assert problems == [*unknown, (4, "rejected", "amount")]
    kept = {line["event_id"]: line.get("quarantined") for line in logged(running) if "event_id" in line}
    assert [name for name in kept if name.startswith("mixed")] == [f"mixed {place}" for place in range(4)]
    assert kept["mixed 0"] is None
    assert str(kept["mixed 1"]).startswith("user_id: ")
    assert running.metric("recommender_events_quarantined_total", field="item_id") >= 1
    assert running.metric("recommender_events_rejected_total", field="amount") >= 1
    assert running.metric("recommender_event_age_seconds_count") >= 1


def test_a_body_that_is_no_batch_or_too_large_is_refused(running: Gateway, shop: Shop) -> None:
    one = event("x", "view", shop.users[0], item_id=shop.catalogue.item_ids[1])
    too_many = [{**one, "event_id": str(number)} for number in range(201)]
    for body in ({"events": []}, {"events": one}, {"events": too_many}, {"events": [one], "more": 1}):
        answer = running.client.post(PATH, json=body)
        assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "events")
    assert running.client.post(PATH, content=b"[", headers={"Content-Type": "application/json"}).status_code == 422
    large = running.client.post(PATH, json={**one, "page": "x" * 600_000})
    assert (large.status_code, large.json()["fields"][0]["field"]) == (413, "body")


def test_the_client_sends_events_and_gives_each_an_id(running: Gateway, shop: Shop) -> None:
    one = {"kind": "view", "user_id": shop.users[4], "item_id": shop.catalogue.item_ids[1]}
    with Client(str(running.client.base_url), deadline_s=20) as client:
        taken = client.send_events([one, one, {**one, "dwell_s": -1.0}])
        assert (taken.accepted, taken.rejected, taken.problems[0].field) == (2, 1, "dwell_s")
        with pytest.raises(InvalidRequest) as refused:
            client.send_events([{**one, "rating": 5.0}])
    assert [problem.field for problem in refused.value.fields] == ["events.0.rating"]


def test_every_field_that_belongs_to_a_kind_is_described(running: Gateway) -> None:
    document = running.client.get("/openapi.json").json()
    described = document["components"]["schemas"]["Event"]["properties"]
    assert set(BELONGS_TO) < set(described)
    assert "202" in document["paths"][PATH]["post"]["responses"]
