"""Forgotten users at a gateway without a model server, and what it does while it cannot know who was forgotten."""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from conftest import Shop
from gateways import Gateway, copied_home, gateway_in_a_thread

from recommender.decisions.log import find, folders_of
from recommender.settings import Settings
from recommender.storage.forgotten import ANONYMOUS, forget
from recommender.storage.home import Home, ServingState

NOW = datetime(2026, 1, 5, tzinfo=UTC)
SEGMENT = "20260105-0123456789ab-0.jsonl"
WITHIN_S = 20.0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def view(running: Gateway, user: str, event_id: str, item: str) -> httpx.Response:
    event = {"event_id": event_id, "kind": "view", "user_id": user, "item_id": item}
    return running.client.post("/v1/events", json=event)


def answered(running: Gateway, user: str) -> tuple[list[str], bool, str]:
    """Why the answer is degraded, whether the user counts as unknown, and whom the record names."""
    answer = running.client.post("/v1/recommendations", json={"user_id": user, "context": {"name": user}}).json()
    record = find(folders_of(running.settings), answer["request_id"])
    assert record["context"] == ({} if record["user_id"] == ANONYMOUS else {"name": user})
    return answer["degraded_reasons"], answer["cold_start"], record["user_id"]


def left_by_a_killed_gateway(home: Settings, *users: str) -> list[tuple[Path, Path]]:
    """A segment of either log: where it lies, and where it is shipped to."""
    state, found = ServingState.of(home), []
    for own, shared in ((state.events, Home.of(home).events), (state.decisions, Home.of(home).decisions)):
        own.mkdir(parents=True)
        lines = [json.dumps({"event_id": f"of {user}", "user_id": user, "kind": "view"}) for user in users]
        (own / SEGMENT).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.utime(own / SEGMENT, (1, 1))
        found.append((own / SEGMENT, shared / SEGMENT))
    return found


def ready(running: Gateway) -> dict[str, Any]:
    answer = running.client.get("/readyz")
    assert answer.status_code == 200
    details: dict[str, Any] = answer.json()["details"]
    return details


def test_who_is_forgotten_is_kept_out_from_the_start_and_while_the_gateway_runs(shop: Shop, tmp_path: Path) -> None:
    home, item = copied_home(shop, tmp_path / "home"), shop.catalogue.item_ids[1]
    first, second, third = shop.users[:3]
    forget(Home.of(home), [first], NOW)
    with gateway_in_a_thread(home) as running:
        assert answered(running, first) == ([], True, ANONYMOUS)
        assert answered(running, second) == (["no_model"], False, second)
        refused = view(running, first, "one", item)
        assert (refused.status_code, refused.json()["fields"][0]["field"]) == (422, "user_id")
        assert view(running, second, "two", item).status_code == 202
        forget(Home.of(home), [second], NOW)
        until(lambda: answered(running, second) == ([], True, ANONYMOUS))
        assert view(running, second, "three", item).status_code == 422
        # A list that breaks now cannot have got anybody new: the last one goes on.
        Home.of(home).forgotten.write_text("damaged", encoding="utf-8")
        until(lambda: ready(running)["forgotten_list"] is not None)
        assert running.metric("recommender_forgotten_list_unreadable") == 1
        assert answered(running, second) == ([], True, ANONYMOUS)
        assert answered(running, third) == (["no_model"], False, third)
        assert view(running, third, "four", item).status_code == 202


def test_a_gateway_that_never_read_the_list_lets_nobody_in_until_it_can(shop: Shop, tmp_path: Path) -> None:
    home, item = copied_home(shop, tmp_path / "home"), shop.catalogue.item_ids[1]
    gone, stays = shop.users[:2]
    segments = left_by_a_killed_gateway(home, gone, stays)
    forget(Home.of(home), [gone], NOW)
    whole = Home.of(home).forgotten.read_bytes()
    Home.of(home).forgotten.write_bytes(whole[: len(whole) // 2])
    with gateway_in_a_thread(home) as running:
        for user in (gone, stays, "of nobody"):
            assert answered(running, user) == (["forgotten_list"], False, ANONYMOUS)
            refused = view(running, user, f"view of {user}", item)
            assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert "forgotten" in refused.json()["message"]
        details = ready(running)
        assert details["answers"] == "popular"
        assert str(Home.of(home).forgotten) in details["forgotten_list"]
        assert running.metric("recommender_forgotten_list_unreadable") == 1
        assert running.metric("recommender_degraded_total", reason="forgotten_list") == 3
        time.sleep(0.6)  # a shipper looks twice a second
        assert [(own.is_file(), shared.is_file()) for own, shared in segments] == [(True, False)] * 2
        Home.of(home).forgotten.write_bytes(whole)
        until(lambda: answered(running, stays) == (["no_model"], False, stays))
        assert answered(running, gone) == ([], True, ANONYMOUS)
        assert view(running, gone, "again", item).status_code == 422
        assert view(running, stays, "again", item).status_code == 202
        assert ready(running)["forgotten_list"] is None
        assert running.metric("recommender_forgotten_list_unreadable") == 0
        until(lambda: all(shared.is_file() and not own.exists() for own, shared in segments))
        for _, shared in segments:
            users = {json.loads(line).get("user_id") for line in shared.read_text(encoding="utf-8").splitlines()}
            assert users == {stays, None}
