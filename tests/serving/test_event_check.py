"""`recommender events check`: online rows with events folded in equal a rebuild, and a planted difference is found."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import Shop
from gateways import copied_home, gateway
from typer.testing import CliRunner

from cli.main import app
from recommender.settings import Settings
from recommender.storage.home import Home

NUM_USERS = 12


@dataclass(frozen=True)
class Sent:
    """A home whose gateway took events and has ended."""

    settings: Settings
    users: list[str]
    file: Path

    @property
    def tails(self) -> Path:
        return Home.of(self.settings).feature_store.event_tails

    def check(self) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["events", "check", "--settings", str(self.file)])


@pytest.fixture(scope="module")
def sent(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    folder = tmp_path_factory.mktemp("event_check")
    endpoint = copied_home(shop, folder / "home")
    taken = {user for user, _ in shop.taken_up()}
    users = [user for user in shop.users if user not in taken][40 : 40 + NUM_USERS]
    with gateway(endpoint) as running:
        answer = running.client.post("/v1/events", json={"events": list(_events(users, shop))})
        assert answer.json()["accepted"] == 6 * NUM_USERS, answer.text
        settings = running.settings
    world = {
        "num_users": 1000,
        "num_items": 240,
        "num_campaigns": 24,
        "num_categories": 8,
        "days_between_baskets": 24.0,
    }
    world["preference"] = "affinity"
    return Sent(settings, users, _written(settings, world, folder / "settings.toml"))


def _events(users: list[str], shop: Shop) -> Iterator[dict[str, Any]]:
    items, campaign = shop.catalogue.item_ids[1:4], shop.live()[0]
    for user in users:
        own = {"user_id": user}
        for item, amount in zip(items[:2], (2.5, 0.99), strict=True):
            name = f"{user} bought {item}"
            yield {**own, "event_id": name, "kind": "purchase", "item_id": item, "amount": amount, "basket_id": user}
        yield {**own, "event_id": f"{user} view", "kind": "view", "item_id": items[2]}
        yield {**own, "event_id": f"{user} search", "kind": "search", "query": "organic teas"}
        yield {**own, "event_id": f"{user} took", "kind": "participation", "campaign_id": campaign}
        yield {**own, "event_id": f"{user} hid", "kind": "hide", "campaign_id": shop.live()[1]}


def _written(settings: Settings, world: dict[str, Any], file: Path) -> Path:
    """A file of settings for the home, whose source makes the shop's tables again."""
    lines = [f"home = '{settings.home}'", "[time]", f"as_of = '{settings.time.as_of.isoformat()}'"]
    lines += ["[source]", "dataset = 'synthetic'", "[source.synthetic]", *(f"{k} = {v!r}" for k, v in world.items())]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_before_the_first_run_the_check_says_what_to_start_with(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f"home = '{tmp_path / 'home'}'\n", encoding="utf-8")
    found = CliRunner().invoke(app, ["events", "check", "--settings", str(tmp_path / "settings.toml")])
    assert found.exit_code == 2
    assert "start with: recommender run" in " ".join(found.output.split())


def test_rows_with_events_folded_in_equal_a_rebuild_from_the_tables_and_the_log(sent: Sent) -> None:
    found = sent.check()
    assert found.exit_code == 0, found.output
    assert f"UTC: {NUM_USERS}. Different: 0," in found.output


def test_an_event_that_was_changed_lost_or_added_in_the_store_is_named_with_user_and_field(sent: Sent) -> None:
    changed, lost, shown, unseen = sent.users[:4]
    with closing(sqlite3.connect(sent.tails)) as connection:
        bodies = dict(connection.execute("SELECT user_id, body FROM tails"))
        planted = {
            changed: bodies[changed].replace(b'"a":2.5', b'"a":2.6'),
            shown: b"".join(line for line in bodies[shown].splitlines(keepends=True) if b'"hide"' not in line),
            unseen: b"".join(line for line in bodies[unseen].splitlines(keepends=True) if b'"search"' not in line),
        }
        assert all(planted[user] != bodies[user] for user in planted)
        with connection:
            connection.execute("DELETE FROM tails WHERE user_id = ?", (lost,))
            connection.executemany("UPDATE tails SET body = ? WHERE user_id = ?", [(b, u) for u, b in planted.items()])
        try:
            found = sent.check()
        finally:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO tails VALUES (?, ?)", bodies.items())
    assert found.exit_code == 1, found.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in found.output.splitlines() if "│" in line]
    fields = {(row[0], row[1]) for row in rows if row[0]}  # a long value goes on in a further line
    assert {user for user, _ in fields} == {changed, lost, shown, unseen}
    assert {(changed, "product cents"), (changed, "history spend_B")} <= fields
    assert {(lost, "product values"), (lost, "campaigns taken up"), (lost, "history items_T")} <= fields
    assert {field for user, field in fields if user == shown} == {"campaigns hidden"}
    of_search = {field for user, field in fields if user == unseen and "look" in field}
    assert {"category looked at", "product_type looked at", "interest__looked"} <= of_search
