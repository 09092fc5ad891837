"""Risk flags: patterns of a shopper that a person should look at, with the counts behind each. Never used to rank.

A pattern is flagged if its count is at least `FEWEST` and if at most one in a thousand shoppers would reach it by
chance, where shoppers differ as they do in this shop (`GammaPoisson.tail`). So a shop in which everyone returns a
lot flags nobody for returning as much as others.

Shapes: U users.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from recommender.datasets.time_units import DAY_S
from recommender.features.facts.columns import aligned
from recommender.features.facts.moments import before
from recommender.features.facts.shrinkage import Floats, GammaPoisson
from recommender.features.source import TIME_TYPE, Source

RECENT_DAYS = 365
"""Patterns are those of the last year."""
FEWEST = 3
"""Fewer cases are no pattern. Chosen by hand."""
BY_CHANCE = 1e-3
"""Share of shoppers who would be flagged if all behaved as the model says."""


@dataclass(frozen=True)
class Pattern:
    """What is counted."""

    name: str
    case: str
    """What one case is, in words."""
    exposure: str
    """What the number of cases is measured against, in words."""


PATTERNS = (
    Pattern("returns", "purchase line that was returned", "purchase lines"),
    Pattern("untargeted_coupons", "campaign taken up that was not sent to the shopper", "shopper"),
    Pattern("repeated_coupons", "redemption of a coupon that the shopper had redeemed before", "shopper"),
    Pattern("review_bursts", "review of the shopper's busiest 24 hours", "shopper"),
    Pattern("copied_reviews", "review with the words of an earlier one by the same shopper", "shopper"),
)


def risks_at(source: Source, moment: datetime, user_ids: pa.Array) -> dict[str, Floats]:
    """Count each pattern before a moment, and compare users.

    Args:
        source: the tables.
        moment: nothing from here on is read.
        user_ids: all users, also those without any case.

    Returns:
        For each pattern that the source can show `risk__<name>` (cases), `risk__<name>_of` (exposure),
        `risk__<name>_chance` (share of shoppers with as many by chance) and `risk__<name>_flag` (0 or 1), float64 [U].
    """
    tables = source.tables
    found: dict[str, tuple[Floats, Floats]] = {}

    def of(table: Any, column: str) -> Floats:
        return aligned(table.to_pyarrow(), column, user_ids, missing=0.0)

    ones_U = np.ones(len(user_ids))
    if tables.has("events", "returned_at"):
        found["returns"] = _returns(source, moment, of)
    found["untargeted_coupons"] = (of(_untargeted(source, moment), "cases"), ones_U)
    if tables.has("participations", "coupon_id"):
        found["repeated_coupons"] = (of(_repeated(source, moment), "cases"), ones_U)
    reviews = before(source.table("events"), moment)
    reviews = reviews.filter(reviews.kind == "review", reviews.day < RECENT_DAYS)
    if reviews.limit(1).count().to_pyarrow().as_py():
        at_s: Any = reviews.event_time.epoch_seconds().cast("int64")
        window: Any = ibis.range_window
        a_day = window(group_by="user_id", order_by=at_s, preceding=DAY_S - 1, following=0)
        ending = reviews.mutate(cases=reviews.count().over(a_day))
        found["review_bursts"] = (of(ending.group_by("user_id").agg(cases=ending.cases.max()), "cases"), ones_U)
        if tables.has("events", "text"):
            written = reviews.filter(reviews.text.notnull(), reviews.text != "")
            copies = written.group_by("user_id").agg(cases=written.count() - written.text.nunique())
            found["copied_reviews"] = (of(copies, "cases"), ones_U)
    columns: dict[str, Floats] = {}
    for name, (cases_U, exposure_U) in found.items():
        model = GammaPoisson.fit(cases_U, exposure_U)
        chance_U = np.where(cases_U > 0, model.tail(cases_U, exposure_U), 1.0)
        columns[f"risk__{name}"], columns[f"risk__{name}_of"] = cases_U, exposure_U
        columns[f"risk__{name}_chance"] = chance_U
        columns[f"risk__{name}_flag"] = ((cases_U >= FEWEST) & (chance_U <= BY_CHANCE)).astype(np.float64)
    return columns


def _returns(source: Source, moment: datetime, of: Any) -> tuple[Floats, Floats]:
    """Lines of the last year that came back before the moment, and all lines of it."""
    lines = before(source.lines, moment)
    lines = lines.filter(lines.day < RECENT_DAYS)
    back = (lines.returned_s < int(moment.timestamp())).fill_null(False)
    counted = lines.group_by("user_id").agg(cases=back.cast("int64").sum(), lines=lines.count())
    return of(counted, "cases"), of(counted, "lines")


def _untargeted(source: Source, moment: datetime) -> Any:
    taken = _participations(source, moment).select("user_id", "campaign_id").distinct()
    targets = source.table("targets")
    sent = targets.filter(targets.targeted_at < ibis.literal(moment, TIME_TYPE))
    others = taken.anti_join(sent.select("user_id", "campaign_id").distinct(), ["user_id", "campaign_id"])
    return others.group_by("user_id").agg(cases=others.count())


def _repeated(source: Source, moment: datetime) -> Any:
    taken = _participations(source, moment)
    taken = taken.filter(taken.coupon_id.notnull())
    each = taken.group_by("user_id", "campaign_id", "coupon_id").agg(times=taken.count())
    return each.group_by("user_id").agg(cases=(each.times - 1).sum())


def _participations(source: Source, moment: datetime) -> Any:
    taken = source.table("participations")
    taken = taken.filter(taken.participated_at < ibis.literal(moment, TIME_TYPE))
    age_s = int(moment.timestamp()) - taken.participated_at.epoch_seconds().cast("int64")
    return taken.filter(age_s < RECENT_DAYS * DAY_S)
