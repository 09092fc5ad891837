"""Synthetic worlds give the same bytes for the same seed, and draw outcomes by the probabilities that they publish."""

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from recommender.datasets import ingest
from recommender.datasets.contract import check, open_views
from recommender.datasets.synthetic import World, from_settings, generate
from recommender.datasets.tables import CAMPAIGN_KINDS, EVENT_KINDS, Tables
from recommender.errors import SettingsError
from recommender.settings import SourceSettings

TINY: dict[str, Any] = {"num_users": 40, "num_items": 24, "num_campaigns": 5, "num_categories": 4, "days": 120}

PAIRS = """
WITH lines AS (SELECT user_id, event_time, category FROM events JOIN items USING (item_id) WHERE kind = 'purchase'),
     promoted AS (SELECT campaign_id, any_value(category) AS category
                  FROM campaign_items JOIN items USING (item_id) GROUP BY 1)
SELECT any_value(starts_at) AS starts_at, any_value(participation) AS truth, any_value(propensity) AS propensity,
    any_value(targeted) AS targeted, max(p.campaign_id IS NOT NULL) AS redeemed,
    count(*) FILTER (l.category = promoted.category) AS lines_there, count(l.user_id) AS lines_at_all,
    count(*) FILTER (l.category = promoted.category AND event_time > starts_at - INTERVAL 30 DAY) AS lines_30_days,
    coalesce(epoch(any_value(starts_at))
             - epoch(max(event_time) FILTER (l.category = promoted.category)), 4e7) AS age_s,
    any_value(campaign_type) = 'A' AS type_a, any_value(campaign_type) = 'B' AS type_b
FROM truth t JOIN campaigns USING (campaign_id) JOIN promoted USING (campaign_id)
LEFT JOIN lines l ON l.user_id = t.user_id AND l.event_time < starts_at
LEFT JOIN participations p ON p.campaign_id = t.campaign_id AND p.user_id = t.user_id
GROUP BY t.campaign_id, t.user_id
"""


@pytest.fixture(scope="module")
def affinity(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return generate(World.small(preference="affinity", views=False), tmp_path_factory.mktemp("affinity") / "tables")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return generate(World.small(preference="sequence", views=False), tmp_path_factory.mktemp("sequence") / "tables")


def pairs_of(tables: Tables) -> dict[str, Any]:
    with open_views(tables) as connection:
        connection.execute(f"CREATE VIEW truth AS FROM '{tables.folder}/truth/pairs.parquet'")
        return dict(connection.execute(PAIRS).fetchnumpy())


def counts_auc(pairs: dict[str, Any]) -> tuple[float, float]:
    """AUC on the later pairs of a logistic regression on plain counts, and of the truth."""
    at = pairs["targeted"].astype(bool)
    features_NF = np.column_stack(
        [
            *(
                np.log1p(pairs[name][at].astype(float))
                for name in ("lines_there", "lines_30_days", "lines_at_all", "age_s")
            ),
            *(pairs[name][at].astype(float) for name in ("type_a", "type_b")),
        ]
    )
    redeemed_N, starts_N = (
        pairs["redeemed"][at].astype(int),
        pairs["starts_at"][at].astype("datetime64[us]").astype(np.int64),
    )
    early_N = starts_N < np.quantile(starts_N, 0.55)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features_NF[early_N], redeemed_N[early_N])
    learned_N = model.predict_proba(features_NF[~early_N])[:, 1]
    return (
        float(roc_auc_score(redeemed_N[~early_N], learned_N)),
        float(roc_auc_score(redeemed_N[~early_N], pairs["truth"][at][~early_N])),
    )


def test_where_affinity_decides_plain_counts_come_near_the_truth(affinity: Tables) -> None:
    counts, truth = counts_auc(pairs_of(affinity))
    assert truth > 0.8
    assert counts > truth - 0.03


def test_where_the_walk_decides_plain_counts_say_little(sequence: Tables) -> None:
    counts, truth = counts_auc(pairs_of(sequence))
    assert truth > 0.8
    assert counts < 0.65


def test_the_walk_decides_by_the_category_that_follows_the_last_one(sequence: Tables) -> None:
    """What the truth calls likely is the commonest successor, counted from the baskets alone."""
    with open_views(sequence) as connection:
        connection.execute(f"CREATE VIEW truth AS FROM '{sequence.folder}/truth/pairs.parquet'")
        connection.execute("""CREATE TABLE baskets AS
            SELECT user_id, min(event_time) AS bought_at, mode(category ORDER BY category) AS category
            FROM events JOIN items USING (item_id) WHERE kind = 'purchase' GROUP BY user_id, basket_id""")
        connection.execute("""CREATE TABLE successors AS SELECT category, arg_max(next, n) AS next FROM (
            SELECT category, next, count(*) AS n FROM (
            SELECT category, lead(category) OVER (PARTITION BY user_id ORDER BY bought_at) AS next FROM baskets)
            WHERE next IS NOT NULL GROUP BY 1, 2) GROUP BY 1""")
        likely, agree = connection.execute("""
            SELECT count(*) FILTER (participation > 0.5),
                count(*) FILTER (participation > 0.5 AND promoted.category = s.next)
            FROM truth JOIN campaigns c USING (campaign_id)
            JOIN (SELECT DISTINCT campaign_id, category FROM campaign_items JOIN items USING (item_id)) promoted
                USING (campaign_id)
            ASOF JOIN baskets b ON truth.user_id = b.user_id AND b.bought_at < c.starts_at
            JOIN successors s ON s.category = b.category""").fetchone() or (0, 1)
    assert likely > 1_000
    assert agree == likely


@pytest.mark.parametrize("preference", ["affinity", "sequence"])
def test_outcomes_are_drawn_by_the_published_probabilities(preference: str, request: pytest.FixtureRequest) -> None:
    pairs = pairs_of(request.getfixturevalue(preference))
    targeted = pairs["targeted"].astype(bool)
    for outcome, probability in (
        (targeted, pairs["propensity"]),
        (pairs["redeemed"][targeted].astype(bool), pairs["truth"][targeted]),
    ):
        spread = np.sqrt((probability * (1 - probability)).sum())
        # Participations after the log's end are not recorded: a few of the last campaign's are missing.
        assert abs(outcome.sum() - probability.sum()) < 4 * spread + 25


@pytest.mark.parametrize("preference", ["affinity", "sequence"])
def test_the_small_worlds_hold_enough_of_both_classes_early_and_late(
    preference: str, request: pytest.FixtureRequest
) -> None:
    pairs = pairs_of(request.getfixturevalue(preference))
    starts_N = pairs["starts_at"].astype("datetime64[us]").astype(np.int64)
    for low, high in ((0.45, 0.65), (0.65, 1.0)):
        period = (starts_N >= np.quantile(starts_N, low)) & (starts_N <= np.quantile(starts_N, high))
        assert (pairs["redeemed"].astype(bool) & period).sum() >= 100


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        generate(World(**TINY, seed=seed), tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.data_hash == again.data_hash
    assert first.data_hash != other.data_hash


@pytest.mark.parametrize("preference", ["affinity", "sequence"])
def test_a_world_keeps_the_contract_and_has_every_kind(preference: str, tmp_path: Path) -> None:
    tables = ingest(
        SourceSettings(dataset="synthetic", synthetic={**TINY, "preference": preference, "seed": 4}),
        tmp_path / "tables",
    )
    check(tables)
    with open_views(tables) as connection:
        kinds = {kind for (kind,) in connection.sql("SELECT DISTINCT kind FROM events").fetchall()}
        campaign_kinds = {kind for (kind,) in connection.sql("SELECT DISTINCT kind FROM campaigns").fetchall()}
        outside = connection.sql("""SELECT count(*) FROM participations JOIN campaigns USING (campaign_id)
            WHERE participated_at < starts_at OR participated_at >= ends_at""").fetchone()
        unrated = connection.sql(
            "SELECT count(*) FROM events WHERE (kind = 'review') <> (rating IS NOT NULL)"
        ).fetchone()
        wordless = connection.sql(
            "SELECT count(*) FROM events WHERE (kind = 'search') <> (query IS NOT NULL)"
        ).fetchone()
    assert kinds == {"view", "click", "cart", "purchase", "review", "search", "share"} < set(EVENT_KINDS)
    assert campaign_kinds == set(CAMPAIGN_KINDS)
    assert outside == unrated == wordless == (0,)


def test_propensities_of_the_targets_are_those_of_the_truth(tmp_path: Path) -> None:
    tables = generate(World(**TINY), tmp_path / "tables")
    with duckdb.connect() as connection:
        differing = connection.sql(f"""SELECT count(*) FROM read_parquet('{tables.glob("targets")}') t
            FULL JOIN (FROM '{tables.folder}/truth/pairs.parquet' WHERE targeted) p USING (campaign_id, user_id)
            WHERE t.propensity IS DISTINCT FROM p.propensity""").fetchone()
    assert differing == (0,)


def test_an_unknown_parameter_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(SettingsError, match=r"source\.synthetic\.num_itms: .*'num_items'"):
        from_settings({"num_itms": 3})


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("num_users", 0),
        ("num_users", "x"),
        ("num_users", 2.5),
        ("num_items", True),
        ("num_items", 9),  # fewer than the ten categories
        ("first_campaign_day", 0),
        ("first_campaign_day", 360),  # the log has as many days
        ("seed", -1),
        ("mean_propensity", 3.0),
        ("walk_noise", -1),
        ("strength", float("nan")),
        ("days_between_baskets", 0),
        ("views", "no"),
        ("first_day", "soon"),
        ("first_day", 3),
        ("time_zone", "Berlin time"),
        ("preference", "taste"),
    ],
)
def test_an_impossible_parameter_is_refused_by_name_with_its_value(parameter: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"^source\.synthetic\.{parameter}: .*got {re.escape(repr(value))}"):
        from_settings({parameter: value})
