"""Features of past campaigns, read from running sums, are those that a plain loop over a user's rows finds."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from recommender.datasets.tables import TIME, Tables
from recommender.features.bought import Decisions
from recommender.features.campaign_habits import Habits, habits
from recommender.features.source import Shop, Source
from recommender.features.taxonomy import Taxonomy
from recommender.matching.affinity import USER_PRIOR_PAIRS, USER_PRIOR_RATE
from recommender.storage.ids import Ids

START = datetime(2024, 1, 1, tzinfo=UTC)
TYPES = {"A": ("a_targeted", "a_redeemed", "a_rate"), "B": ("b_targeted", "b_redeemed", "b_rate")}
USERS, CAMPAIGNS = 30, 25


@dataclass(frozen=True)
class Log:
    campaigns: list[dict[str, Any]]
    targets: list[dict[str, Any]]
    taken: list[dict[str, Any]]
    decided: list[tuple[str, datetime]]


@pytest.fixture(scope="module")
def log() -> Log:
    """Overlapping windows, repeated and untargeted participations, some before their targeting, and equal times."""
    random = np.random.default_rng(11)

    def day(upto: int) -> datetime:
        return START + timedelta(days=int(random.integers(upto)))

    campaigns = []
    for number in range(CAMPAIGNS):
        starts = day(200)
        ends = starts + timedelta(days=int(random.integers(5, 90)))
        kind = "ABC"[number % 3]
        campaigns.append({"campaign_id": f"c{number:02}", "campaign_type": kind, "starts_at": starts, "ends_at": ends})
    users = [f"u{number:02}" for number in range(USERS)]
    targets, taken = [], []
    for user in users[1:]:
        for campaign in campaigns:
            ids = {"user_id": user, "campaign_id": campaign["campaign_id"]}
            if random.random() < 0.5:
                targets.append({**ids, "targeted_at": day(230)})
            taken += [
                {**ids, "participated_at": day(230)} for _ in range(random.integers(4) if random.random() < 0.4 else 0)
            ]
    moments = {(user, day(240)) for user in users for _ in range(8)}
    moments |= {(row["user_id"], row["targeted_at"]) for row in targets[::5]}
    moments |= {(row["user_id"], row["participated_at"] + timedelta(days=90)) for row in taken[::5]}
    return Log(campaigns, targets, taken, sorted(moments))


@pytest.fixture(scope="module")
def found(log: Log) -> Habits:
    times = dict.fromkeys(("starts_at", "ends_at", "targeted_at", "participated_at"), TIME)

    def table(rows: list[dict[str, Any]]) -> pa.Table:
        return pa.table({name: pa.array([row[name] for row in rows], times.get(name, pa.string())) for name in rows[0]})

    tables = Tables(Path("nowhere"))
    tables.__dict__["manifest"] = {"columns": {"targets": [], "participations": []}}
    items = pa.table({"item_id": pa.array([], pa.string())})
    shop = Shop(Taxonomy.of(items, Ids().adding({"product": []})), table(log.campaigns), pa.table({}))
    rows = {"targets": ibis.memtable(table(log.targets)), "participations": ibis.memtable(table(log.taken))}
    source = Source(tables, ibis.duckdb.connect(), START, rows=rows, shop=shop)
    decided = pa.table(
        {
            "decision": np.arange(len(log.decided), dtype=np.int32),
            "user_id": [user for user, _ in log.decided],
            "decided_at": pa.array([moment for _, moment in log.decided], TIME),
        }
    )
    return habits(source, Decisions.of(decided), TYPES)


def past_of(log: Log, user: str, moment: datetime) -> list[dict[str, Any]]:
    """Each campaign that the user was targeted by before a moment, with the participations known by then."""
    by_id = {row["campaign_id"]: row for row in log.campaigns}
    return [
        {
            **by_id[row["campaign_id"]],
            "targeted_at": row["targeted_at"],
            "times": times_taken(log, user, row["campaign_id"], moment),
        }
        for row in log.targets
        if row["user_id"] == user and row["targeted_at"] < moment
    ]


def times_taken(log: Log, user: str, campaign: str, moment: datetime) -> list[datetime]:
    ours = [row for row in log.taken if row["user_id"] == user and row["campaign_id"] == campaign]
    return [row["participated_at"] for row in ours if row["participated_at"] < moment]


def expected(past: list[dict[str, Any]], moment: datetime) -> list[float]:
    def days(times: list[datetime]) -> float:
        return min(((moment - time) / timedelta(days=1) for time in times), default=np.nan)

    taken = [row for row in past if row["times"]]
    opened = [row for row in past if row["ends_at"] > moment]
    coupons = sum(len(row["times"]) for row in past)
    recent = [sum(days(row["times"]) <= length for row in taken) for length in (90, 180)]
    none = not past
    values = [
        len(past),
        len(taken),
        np.nan if none else rate(len(taken), len(past)),
        coupons,
        np.nan if none else coupons / len(past),
        len(opened),
        sum(bool(row["times"]) for row in opened),
        days([time for row in past for time in row["times"]]),
        days([row["targeted_at"] for row in past]),
        *recent,
    ]
    for kind in TYPES:
        targeted = [row for row in past if row["campaign_type"] == kind]
        redeemed = sum(bool(row["times"]) for row in targeted)
        values += [len(targeted), redeemed, np.nan if none else rate(redeemed, len(targeted))]
    return values


def rate(redeemed: int, targeted: int) -> float:
    return (redeemed + USER_PRIOR_PAIRS * USER_PRIOR_RATE) / (targeted + USER_PRIOR_PAIRS)


def test_the_features_of_every_decision_are_those_of_a_loop(log: Log, found: Habits) -> None:
    columns = np.stack(list(found.columns.values()), axis=1)
    wanted = [expected(past_of(log, user, moment), moment) for user, moment in log.decided]
    np.testing.assert_array_equal(columns, np.array(wanted, dtype=np.float32))


def test_open_campaigns_are_listed_with_the_features_without_each_of_them(log: Log, found: Habits) -> None:
    rows, wanted = [], []
    for decision, (user, moment) in enumerate(log.decided):
        past = past_of(log, user, moment)
        targeted = {row["campaign_id"]: row["targeted_at"] for row in past}
        for campaign in log.campaigns:
            name, times = campaign["campaign_id"], times_taken(log, user, campaign["campaign_id"], moment)
            if campaign["ends_at"] > moment and (times or name in targeted):
                since = targeted.get(name, campaign["starts_at"])
                rows.append((decision, name, since, int(name in targeted), int(bool(times))))
                wanted.append(expected([row for row in past if row["campaign_id"] != name], moment))
    assert len({counted for *_, counted, _ in rows}) == 2
    assert [tuple(row.values()) for row in found.own.to_pylist()] == rows
    np.testing.assert_array_equal(found.without_own_OH, np.array(wanted, dtype=np.float32))


def test_past_campaigns_are_counted_by_type(log: Log, found: Habits) -> None:
    wanted = []
    for decision, (user, moment) in enumerate(log.decided):
        past = past_of(log, user, moment)
        for kind in sorted({row["campaign_type"] for row in past}):
            of_kind = [row for row in past if row["campaign_type"] == kind]
            wanted.append((decision, kind, len(of_kind), sum(bool(row["times"]) for row in of_kind)))
    assert [tuple(row.values()) for row in found.by_type.to_pylist()] == wanted
