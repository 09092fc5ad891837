"""CPU time of the gateway's read of one user: before there were tails, and for users without and with events."""

import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.decision.rows import Row
from benchmarks.served_shop import Shop
from recommender.datasets.time_units import DAY_US
from recommender.events.contract import Event, Stamped
from recommender.events.fold import Fold
from recommender.events.tail import Readings, line_of
from recommender.matching.packed_user import PackedUser, ServingSchema
from recommender.storage.home import Home
from serving.event_tails.sqlite_tails import SqliteTails
from serving.online_store.client import OnlineStoreClient
from serving.online_store.sqlite_store import SqliteStore

READS, ROUNDS = 5_000, 7
"""The least of several rounds counts, because other programs share the machine."""
FOLDED = 10
"""Purchases that the fold adds."""
AGED_DAYS = 9


def rows(shop: Shop, say: Callable[[str], None]) -> list[Row]:
    """Measure on this shop's SQLite file."""
    folder = Home.of(shop.settings).feature_store
    schema = ServingSchema.load(folder.root)
    without = SqliteStore(folder.online_database, 1.0)
    with_tails = SqliteStore(folder.online_database, 1.0, folder.event_tails)
    users = shop.users
    # As in a gateway, which holds the file of tails open from its start to its end.
    tails = SqliteTails.of(shop.settings)
    cost_us: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, store in (("without", without), ("with", with_tails)):
            began = time.process_time()
            for number in range(READS):
                store.fetch(schema, users[number % len(users)], waits=False)
            spent_us = (time.process_time() - began) / READS * 1e6
            cost_us[name] = min(cost_us.get(name, spent_us), spent_us)
    tails.close()
    say(f"reads: {cost_us}")
    fold_us, aged_us = _fold_us(shop)
    return [
        Row(name="read of a user, no table of events, CPU-µs", value=cost_us["without"], goal=""),
        Row(name="read of a user without fresh events, CPU-µs", value=cost_us["with"], goal=""),
        Row(
            name="read of a user without fresh events, CPU-µs more", value=cost_us["with"] - cost_us["without"], goal=""
        ),
        Row(name=f"fold of {FOLDED} purchases into a row, CPU-µs", value=fold_us, goal=""),
        Row(name=f"a row of {AGED_DAYS} days without events brought to the present, CPU-µs", value=aged_us, goal=""),
    ]


def _fold_us(shop: Shop) -> tuple[float, float]:
    """CPU time of a fold of purchases, and of bringing a row to a later moment."""
    client = OnlineStoreClient.open(shop.settings)
    packed = client.read(shop.users[0], 20.0)
    assert packed is not None
    names, at_us = client.names_of(packed), packed.feature_time_us
    client.close()
    items = shop.catalogue.item_ids
    events = [
        Event(event_id=str(number), user_id=shop.users[0], kind="purchase", item_id=items[1 + number], amount=2.5)
        for number in range(FOLDED)
    ]
    tail = b"".join(line_of(Stamped(event, at_us), "20240101-00ff00ff00ff-0") for event in events)
    fold = Fold(shop.catalogue, Readings({}))

    def least_us(row: PackedUser, moment_us: int) -> float:
        found = float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(200):
                fold.folded(shop.users[0], row, names, moment_us)
            found = min(found, (time.process_time() - began) / 200 * 1e6)
        return found

    return least_us(replace(packed, tail=tail), at_us), least_us(packed, at_us + AGED_DAYS * DAY_US)
