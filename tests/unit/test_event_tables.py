"""Events of the shipped log in the tables of a run: each once, what is unknown left out, and what was read named."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from small_shop import EVENTS, SmallShop, ask
from typer.testing import CliRunner

from cli.main import app
from recommender.datasets.contract import open_views
from recommender.datasets.statistics import measure
from recommender.datasets.tables import open_tables
from recommender.decisions.shipping import sealed
from recommender.event_tables.append import add_logged_events, log_identity
from recommender.event_tables.segments import segments_of
from recommender.features.build import build
from recommender.matching.catalogue import Catalogue
from recommender.matching.event_rules import EventRules
from recommender.settings import DEFAULT_RESOURCES
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest

WRITER, OTHER = "00ff00ff00ff", "11ee11ee11ee"
AT = datetime(2024, 3, 15, 9, tzinfo=UTC)
AT_US = round(AT.timestamp() * 1e6)


def write(folder: Path, stem: str, *lines: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    content = b"".join(orjson.dumps(line) + b"\n" for line in lines) + b'{"event_id": "torn'
    (folder / f"{stem}.jsonl").write_bytes(sealed(content))


def event(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": name, "kind": kind, "user_id": "17", "time_us": AT_US, "received_us": AT_US, **fields}


@pytest.mark.parametrize("own_ids", [True, False], ids=["source has event_id", "source has none"])
def test_logged_events_are_rows_of_the_tables_once_and_unknown_ones_wait(tmp_path: Path, own_ids: bool) -> None:
    shop, folder = SmallShop(tmp_path), tmp_path / "log"
    if own_ids:
        head, *lines = EVENTS.splitlines()
        shop.write("events.csv", "\n".join([f"event_id,{head}", *(f"o-{at},{line}" for at, line in enumerate(lines))]))
    tables = shop.read()
    (first,) = [event_id for (event_id,) in ask(tables, "SELECT event_id FROM events ORDER BY event_time LIMIT 1")]
    bought = event("bought", "purchase", item_id="tin", amount=3.5, basket_id="b")
    write(
        *(folder, f"20240315-{WRITER}-0"),
        bought,
        event("reviewed", "review", item_id="tin", rating=4.0),
        event(str(first), "purchase", item_id="tin", amount=99.0),
        event("took part", "participation", campaign_id="spring"),
        event("hidden", "hide", campaign_id="spring"),
        event("nobody's", "purchase", user_id="unknown", item_id="tin"),
    )
    write(folder, f"20240315-{WRITER}-1", {**bought, "received_us": AT_US + 5, "amount": 7.0})
    write(folder, f"20240315-{WRITER}-3", event("after a gap", "view", item_id="tin"))
    write(folder, f"20240315-{OTHER}-7", event("of another", "view", item_id="tin"))
    before = tables.manifest["rows"]["events"]
    known_before = ask(tables, "SELECT user_id, campaign_id, participated_at FROM participations ORDER BY 3")
    made = add_logged_events(tables, folder)
    columns, moment = "event_id, kind, event_time, amount, rating", "TIMESTAMPTZ '2024-03-15 09:00:00+00'"
    rows = ask(made, f"SELECT {columns} FROM events WHERE event_time = {moment} ORDER BY 1")
    # The number of a row is no identifier: an event whose own looks like one is another event.
    first_of_log, more = ("", []) if own_ids else ("http:", [(f"http:{first}", "purchase", AT, 99.0, None)])
    assert rows == [
        *more,
        (f"{first_of_log}bought", "purchase", AT, 3.5, None),
        (f"{first_of_log}of another", "view", AT, None, None),
        (f"{first_of_log}reviewed", "review", AT, None, 4.0),
    ]
    assert made.manifest["rows"]["events"] == before + len(rows)
    assert ("1 have an event_id of the source" in str(made.manifest["decisions"])) == own_ids
    taken_up = "SELECT user_id, campaign_id, participated_at FROM participations ORDER BY 3"
    assert ask(made, taken_up) == [*known_before, ("17", "spring", AT)]
    assert made.manifest["events_read"] == {WRITER: 1, OTHER: 7}
    assert made.manifest["events_waiting"] == 1
    assert made.manifest["time_zone"] == "Europe/Berlin"
    features = build(made, tmp_path / "features", as_of=datetime(2024, 3, 18, tzinfo=UTC), threads=1)
    assert read_manifest(features)["events_read"] == {WRITER: 1, OTHER: 7}
    again = add_logged_events(made, folder)
    assert again.data_hash == made.data_hash


def test_what_events_over_http_leave_out_is_no_column_that_the_export_lost(tmp_path: Path) -> None:
    tables, folder = SmallShop(tmp_path).read(), tmp_path / "log"
    write(folder, f"20240315-{WRITER}-0", *(event(f"view {number}", "view", item_id="tin") for number in range(30)))
    found, until = {}, datetime(2024, 4, 1, tzinfo=UTC)
    for name in ("source", "both"):
        with open_views(tables, DEFAULT_RESOURCES) as connection:
            found[name] = measure(connection, tables, until)
        for _ in range(2):  # the second time nothing is new
            tables = add_logged_events(tables, folder)
            assert tables.manifest["logged_by_day"] == {"2024-03-15": 30}
    shares = [name for name in found["both"].days if name.startswith("null:")]
    day = (AT.date() - found["both"].first_day).days
    assert found["both"].figure("rows")[day] >= 30
    for name in shares:
        assert np.isnan(found["both"].figure(name)[day])
    known = {name: found["source"].figure(name) for name in shares if name in found["source"].days}
    assert any(np.isfinite(share_D).any() for share_D in known.values())
    for name, share_D in known.items():
        earlier = min(day, len(share_D))
        np.testing.assert_array_equal(found["both"].figure(name)[:earlier], share_D[:earlier])


def test_the_catalogue_says_how_events_are_taken_and_only_what_was_known_then(tmp_path: Path) -> None:
    small = SmallShop(tmp_path, source='time_zone = "Europe/Berlin"\ncurrency = "JPY"\n')
    small.write("events.csv", EVENTS + "17,2024-03-18 12:00:00,tin,900,4500.0\n")
    features = build(small.read(), tmp_path / "set", as_of=datetime(2024, 3, 18, tzinfo=UTC), threads=1, late_days=7)
    rules = Catalogue.load(features / "catalogue").event_rules
    largest = {"amount": 19.0, "discount": 19.0, "coupon_discount": 19.0, "quantity": 2.0}
    assert rules == EventRules(currency="JPY", open_from="2024-03-11", largest=largest)
    assert rules.minor_units == 1
    assert [rules.is_late(AT_US - days * 86_400_000_000) for days in (4, 5)] == [False, True]


@pytest.mark.parametrize(("rule", "marked"), [("net", [(AT,)]), ("keep", [])])
def test_a_logged_return_takes_a_purchase_back_unless_the_mapping_keeps_returns(
    tmp_path: Path, rule: str, marked: list[tuple[object]]
) -> None:
    shop = SmallShop(tmp_path)
    shop.source += f'returns = "{rule}"\n'
    tables = shop.read()
    write(tmp_path / "log", f"20240315-{WRITER}-0", event("back", "return", item_id="tin", quantity=2.0, amount=19.0))
    made = add_logged_events(tables, tmp_path / "log")
    assert made.manifest["returns"] == rule
    assert made.has("events", "returned_at") == bool(marked)
    if marked:
        assert ask(made, "SELECT returned_at FROM events WHERE returned_at IS NOT NULL") == marked


def test_without_a_log_the_tables_and_the_identity_of_the_source_stay(tmp_path: Path) -> None:
    tables = SmallShop(tmp_path).read()
    manifest = (tables.folder / "manifest.json").read_bytes()
    assert add_logged_events(tables, tmp_path / "none") is tables
    assert (tables.folder / "manifest.json").read_bytes() == manifest
    assert log_identity(tmp_path / "none", "abc") == "abc"
    write(tmp_path / "log", f"20240315-{WRITER}-0", event("one", "view", item_id="tin"))
    assert log_identity(tmp_path / "log", "abc") != "abc"
    assert [path.name for path in segments_of(tmp_path / "log")] == [f"20240315-{WRITER}-0.jsonl"]


def test_ingest_on_its_own_reads_the_log_as_a_run_does(tmp_path: Path) -> None:
    mapping, home = SmallShop(tmp_path).mapping(), tmp_path / "home"
    folder = Home(home).events
    folder.parent.mkdir()
    write(folder, f"20240315-{WRITER}-0", event("bought", "purchase", item_id="tin", amount=3.5))
    file = tmp_path / "settings.toml"
    file.write_text(f"home = '{home}'\n[source]\ndataset = 'files'\nmapping = '{mapping}'\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["ingest", "--settings", str(file), "--output", str(tmp_path / "made")])
    assert done.exit_code == 0, done.output
    made = open_tables(tmp_path / "made")
    assert ask(made, "SELECT kind, amount FROM events WHERE event_id = 'http:bought'") == [("purchase", 3.5)]
    assert made.manifest["events_read"] == {WRITER: 0}
