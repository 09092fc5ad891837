"""Events at several gateways, at killed ones, and beside a materialisation that ends after them."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import redis
from conftest import Shop, serving_settings
from gateways import Gateway, copied_home, gateway

from feature_repo import materialise
from recommender.settings import StoreSettings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.online_store.client import OnlineStoreClient


def shown(running: Gateway, user: str) -> list[str]:
    return [one["campaign_id"] for one in running.ask(user).json()["campaigns"]]


def fresh_user(shop: Shop, place: int) -> str:
    taken = {user for user, _ in shop.taken_up()}
    return [user for user in shop.users if user not in taken][place]


def hide(event_id: str, user: str, campaign: str) -> dict[str, Any]:
    return {"event_id": event_id, "kind": "hide", "user_id": user, "campaign_id": campaign}


def test_every_gateway_of_one_redis_knows_an_event_when_it_is_acknowledged(
    shop: Shop, tmp_path: Path, redis_url: str
) -> None:
    home = copied_home(shop, tmp_path / "home")
    ours = home.updated(store=StoreSettings(kind="redis", redis_url=redis_url).model_dump())
    materialise(shop.features, ours)
    other = config.absolute(ours.updated(serving=serving_settings(state=tmp_path / "other").model_dump()))
    ServingState.of(other).root.mkdir(parents=True)
    user, store = fresh_user(shop, 20), redis.Redis.from_url(redis_url)
    with gateway(ours) as first, gateway(other) as second:
        campaign = shown(second, user)[0]
        answer = first.client.post("/v1/events", json=hide("over redis", user, campaign))
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert campaign not in shown(second, user)
        assert campaign not in shown(first, user)
        again = second.client.post("/v1/events", json=hide("over redis", user, campaign)).json()
        assert (again["accepted"], again["duplicates"]) == (0, 1)
        ((_, fields),) = store.xrange(f"{ours.store.project}:events")  # type: ignore[misc]
        assert json.loads(fields[b"event"])["event_id"] == "over redis"
        # Feast writes the users' hashes again, and leaves the events in them alone.
        materialise(shop.features, ours)
        assert campaign not in shown(second, user)


def test_a_materialisation_that_ends_after_an_event_does_not_undo_it(shop: Shop, tmp_path: Path) -> None:
    home = copied_home(shop, tmp_path / "home")
    user = fresh_user(shop, 21)
    with gateway(home) as running:
        campaign = shown(running, user)[0]
        assert running.client.post("/v1/events", json=hide("before", user, campaign)).status_code == 202
        materialise(shop.features, home)
        assert campaign not in shown(running, user)


def test_no_acknowledged_event_is_lost_by_killed_gateways(shop: Shop, tmp_path: Path) -> None:
    home = copied_home(shop, tmp_path / "home")
    item, users = shop.catalogue.item_ids[1], shop.users[:20]
    acknowledged: list[str] = []
    for life in range(3):
        with gateway(home) as running:
            assert running.process is not None
            for number in range(60):
                name = f"{life}-{number}"
                if number == 50:
                    os.kill(running.process.pid, signal.SIGKILL)
                one = {"event_id": name, "kind": "view", "user_id": users[number % 20], "item_id": item}
                try:
                    if running.client.post("/v1/events", json=one).status_code == 202:
                        acknowledged.append(name)
                except httpx.TransportError:
                    break
    assert len(acknowledged) >= 150
    with gateway(home):
        pass  # the next process ships what the killed ones left
    shipped = [
        json.loads(line) for path in Home.of(home).events.glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    ids = [line["event_id"] for line in shipped if "event_id" in line]
    assert set(acknowledged) <= set(ids)
    assert not list(ServingState.of(home).events.glob("*.jsonl"))
    client = OnlineStoreClient.open(home)
    tails = [client.read(user, timeout_s=5) for user in users]
    client.close()
    assert sum(tail.tail.count(b"\n") for tail in tails if tail is not None) >= len(acknowledged)
