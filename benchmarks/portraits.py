"""How good the portrait's forecasts are, and whether its facts would help a ranker: reports/bench/features.json.

    cost          CPU seconds of the facts of all households of Complete Journey
    calibration   at moments of Complete Journey: no purchase within 28 days, next visit, spend of 90 days
    ranking       the logistic ranker with and without the facts as features, by rolling origin before the gate period

    looks         the same in a synthetic shop that sees most shoppers look and few of them buy, with and without the
                  items of the looks (`benchmarks.looks`), and each alone: searches, reviews and the seconds of views
                  (`benchmarks.interest`)

    make bench-portraits BENCH_ARGS="--groups calibration"

Shapes: U users · N pairs.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.decision.rows import Row, merge
from benchmarks.features import REPORT
from benchmarks.gains_by_origin import gains, training_set
from benchmarks.interest import interest
from benchmarks.looks import looks
from benchmarks.measured_on import measured_on
from recommender.datasets import ingest
from recommender.datasets.moments import moment
from recommender.datasets.periods import from_microseconds, resolve
from recommender.datasets.tables import Tables
from recommender.features.facts.rhythm import rhythm_at
from recommender.features.facts.table import CHURN_DAYS, VALUE_DAYS, facts_of_users, numbers_at, numbers_of_shop
from recommender.features.facts.value import came_between, value_at
from recommender.features.source import Source, open_source
from recommender.features.training_set import TrainingSet
from recommender.matching.users_at import Counts, Floats, Learnt, UsersAt
from recommender.models.behaviour import bg_nbd
from recommender.models.behaviour.rates import clipped
from recommender.settings import Settings
from recommender.training.train import boundaries

CHOSEN_AT = ("2017-05-01", "2017-06-15", "2017-08-01", "2017-09-01")
"""Moments by which the number of recent gaps was chosen. All windows end before October."""
CHECKED_AT = ("2017-10-01", "2017-11-01", "2017-12-01")
"""Later moments, by which nothing was chosen. The last one's 28 days end before the log does."""
VALUE_AT = ("2017-07-01", "2017-10-01")
GROUPS = ("cost", "calibration", "ranking", "looks")


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    groups = parser.parse_args(words).groups.split(",")
    rows: list[Row] = []
    with TemporaryDirectory(prefix="portraits-") as place:
        if {"cost", "calibration", "ranking"} & set(groups):
            rows += _complete_journey(Path(place), groups)
        if "looks" in groups:
            rows += [*looks(Path(place)), *interest(Path(place))]
    for row in rows:
        print(f"{row.name:58} {row.value:9.4f}  {row.goal} {row.in_words}  {row.facts}")
    merge(rows, measured_on(), REPORT)


def _complete_journey(place: Path, groups: Sequence[str]) -> list[Row]:
    settings = Settings(home=place / "var")
    tables = ingest(settings.source, place / "tables")
    as_of = resolve(settings, tables).as_of
    end = min(as_of, tables.log_end.astimezone(UTC) + timedelta(microseconds=1))
    source = open_source(tables, end, threads=1, spill=place / "spill")
    rows: list[Row] = []
    if "cost" in groups:
        rows.append(_cost(source, end))
    if "calibration" in groups:
        rows += [*_churn(source, CHOSEN_AT, "chosen"), *_churn(source, CHECKED_AT, "later"), *_value(source)]
    if "ranking" in groups:
        rows += _ranking(tables, source, settings, place, as_of)
    return rows


def _cost(source: Source, at: datetime) -> Row:
    """CPU seconds of the facts, on tables that nothing has read yet."""
    began = process_time()
    facts = facts_of_users(source, at, numbers_of_shop(source, at))
    return Row.at_most("facts of all users of Complete Journey: CPU-s", process_time() - began, 15.0,
                       users=facts.num_rows, columns=facts.num_columns)  # fmt: skip


def _churn(source: Source, days: Sequence[str], period: str) -> list[Row]:
    """Log loss and reliability by decile of the risk of no purchase, and how often the next visit's range held."""
    expected, usual, observed, inside = [], [], [], []
    for day in days:
        at = moment(date.fromisoformat(day), source.tables.time_zone)
        rhythm = rhythm_at(source, at)
        users = rhythm.user_ids.to_pylist()
        next_U = _next_visit(source, at, users)
        expected.append(rhythm.none_within(CHURN_DAYS))
        observed.append((next_U > CHURN_DAYS).astype(np.float64))
        known = Counts(
            num_N=rhythm.num_visits_U - 1,
            last_N=rhythm.first_days_U - rhythm.recency_days_U,
            known_N=rhythm.first_days_U,
        )
        usual.append(1 - _bg_nbd(known, users, at))
        low_U, high_U = rhythm.due_days(0.1), rhythm.due_days(0.9)
        inside.append((next_U > low_U - 1) & (np.isnan(high_U) | (next_U <= high_U)))
    p_N, y_N, other_N = np.concatenate(expected), np.concatenate(observed), np.concatenate(usual)
    deciles = np.array_split(np.argsort(p_N, kind="stable"), 10)
    table = [[round(float(p_N[d].mean()), 3), round(float(y_N[d].mean()), 3)] for d in deciles]
    off = max(abs(of[0] - of[1]) for of in table)
    held = float(np.concatenate(inside).mean())
    name = f"no purchase in {CHURN_DAYS} days, {period}"
    facts: dict[str, Any] = {"moments": list(days), "users": len(p_N), "observed": round(float(y_N.mean()), 4)}
    return [
        Row.at_most(f"{name}: log loss less that of BG/NBD", _log_loss(p_N, y_N) - _log_loss(other_N, y_N), 0.0,
                    **facts, log_loss=round(_log_loss(p_N, y_N), 4), bg_nbd=round(_log_loss(other_N, y_N), 4),
                    base_rate=round(_log_loss(np.full(len(y_N), y_N.mean()), y_N), 4)),
        Row.at_most(f"{name}: largest error of a decile", off, 0.05, expected_and_observed=table, **facts),
        Row(name=f"next visit inside its range of 80 %, {period}", value=held, goal="", facts=facts),
    ]  # fmt: skip


def _bg_nbd(known: Counts, users: Sequence[str], at: datetime) -> Floats:
    """BG/NBD's probability of a purchase within `CHURN_DAYS`, from the same counts."""
    features = np.zeros((len(users), 0), dtype=np.float32)
    here = UsersAt(at, tuple(users), (), features, {"buy": known}, {})
    return bg_nbd.forecast(Learnt((), features, known, np.zeros(len(users)), CHURN_DAYS), here, "buy", 0)


def _next_visit(source: Source, at: datetime, users: Sequence[str]) -> Floats:
    """Days from a moment to each user's next purchase, inf without one [U]."""
    lines = source.lines
    later = lines.filter(lines.event_time >= at).group_by("user_id").agg(first_s=lines.time_s.min()).to_pyarrow()
    first = dict(zip(later["user_id"].to_pylist(), later["first_s"].to_pylist(), strict=True))
    return np.array([(first.get(user, np.inf) - at.timestamp()) / 86_400 for user in users])


def _value(source: Source) -> list[Row]:
    rows = []
    for day in VALUE_AT:
        at = moment(date.fromisoformat(day), source.tables.time_zone)
        rhythm = rhythm_at(source, at)
        value = value_at(source, at, rhythm, VALUE_DAYS)
        _, spend_U = came_between(source, at, at + timedelta(days=VALUE_DAYS), rhythm)
        inside = float(((spend_U >= value.low_U) & (spend_U <= value.high_U)).mean())
        facts = {
            "users": len(spend_U),
            "expected": round(float(value.expected_U.sum())),
            "observed": round(float(spend_U.sum())),
            "rank_correlation": round(_rank_correlation(value.expected_U, spend_U), 3),
        }
        rows.append(
            Row(name=f"spend of {VALUE_DAYS} days inside its range of 80 %, {day}", value=inside, goal="", facts=facts)
        )
    return rows


def _ranking(tables: Tables, source: Source, settings: Settings, place: Path, as_of: datetime) -> list[Row]:
    """Gains of the logistic ranker from the facts, pooled over the origins."""
    data = training_set(tables, place, as_of)
    more = with_facts(data, source, until=boundaries(data, settings)["gate"])
    return gains(data, more, settings, "facts, Complete Journey")


def with_facts(data: TrainingSet, source: Source, *, until: datetime) -> TrainingSet:
    """The training set with the facts of each pair's user at its decision as further features, NaN from `until` on.

    Risk flags are never among them.
    """
    users = pa.array(sorted(set(data.pairs["user_id"].to_pylist())))
    place = {user: row for row, user in enumerate(users.to_pylist())}
    rows_N = np.array([place[user] for user in data.pairs["user_id"].to_pylist()])
    decided_us_N = data.times_us("decided_at")
    columns: dict[str, Floats] = {}
    for at_us in np.unique(decided_us_N).tolist():
        at = from_microseconds(at_us)
        if at >= until:
            continue
        pairs = np.flatnonzero(decided_us_N == at_us)
        for name, values_U in numbers_at(source, at, users).items():
            if not name.startswith("risk__"):
                columns.setdefault(name, np.full(len(rows_N), np.nan))[pairs] = values_U[rows_N[pairs]]
    names = (*data.all.feature_names, *columns)
    added_NF = np.stack(list(columns.values()), axis=1).astype(np.float32)
    features_NF = np.concatenate([data.all.features_NF, added_NF], axis=1)
    return replace(data, all=replace(data.all, features_NF=features_NF, feature_names=names))


def _log_loss(p_N: Floats, y_N: Floats) -> float:
    p_N = clipped(p_N)
    return -float(np.mean(y_N * np.log(p_N) + (1 - y_N) * np.log1p(-p_N)))


def _rank_correlation(a_U: Floats, b_U: Floats) -> float:
    a_rank_U, b_rank_U = (np.argsort(np.argsort(of_U, kind="stable"), kind="stable") for of_U in (a_U, b_U))
    return float(np.corrcoef(a_rank_U.astype(np.float64), b_rank_U.astype(np.float64))[0, 1])


if __name__ == "__main__":
    main()
