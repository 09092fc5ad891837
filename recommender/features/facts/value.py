"""Lifetime value: what a shopper is expected to spend in the next days, with the range that held for others before.

Expected visits times expected spend a visit. Visits come at the usual rate (`rhythm`), times a factor for how long the
user has stayed away, measured in usual gaps. Spend a visit is the user's mean drawn to everyone's, as in the
gamma-gamma model (Fader, Hardie & Lee, "RFM and CLV", Journal of Marketing Research, 2005). The factors, and the range
of actual over expected spend, are learnt at an earlier moment of which everything up to this one is known.

Shapes: U users · K classes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import numpy as np
from numpy.typing import NDArray

from recommender.features.facts.columns import aligned
from recommender.features.facts.moments import lines_at, observed_days
from recommender.features.facts.rhythm import Rhythm, rhythm_at
from recommender.features.facts.shrinkage import Credibility, Floats
from recommender.features.source import TIME_TYPE, Source

AWAY = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Classes of usual gaps since the last visit, each with its factor. Chosen by hand."""
EXPECTED_VISITS = (0.5, 1.0, 3.0, 8.0, 16.0)
"""Classes of expected visits, each with its range: rare visitors are harder to foretell. Chosen by hand."""
PRIOR_VISITS = 20.0
"""A factor counts as if so many further visits had come as expected of all. Chosen by hand."""
LOW, HIGH = 0.1, 0.9
"""The range leaves out a tenth of the users on each side."""
FEWEST = 30
"""Users of a class from whom a range is read. With fewer it is that of all."""


@dataclass(frozen=True, eq=False)
class Value:
    """Of each user of a rhythm, in currency units. NaN where the log is too short to learn from."""

    visits_U: Floats
    a_visit_U: Floats
    """Expected spend a visit."""
    expected_U: Floats
    low_U: Floats
    high_U: Floats


@dataclass(frozen=True, eq=False)
class _Learnt:
    factor_K: Floats
    low_K: Floats
    high_K: Floats


def value_at(source: Source, moment: datetime, rhythm: Rhythm, days: int) -> Value:
    """Expect the spend of the next `days` from what lies before a moment.

    Args:
        source: the tables.
        moment: nothing from here on is read.
        rhythm: of the same moment.
        days: how far to look ahead.
    """
    a_visit_U = _a_visit(rhythm)
    learnt = _learn(source, moment, days)
    visits_U = days / rhythm.usual_days_U * learnt.factor_K[_away(rhythm)]
    expected_U = visits_U * a_visit_U
    class_U = np.searchsorted(EXPECTED_VISITS, visits_U, side="right")
    return Value(
        visits_U=visits_U,
        a_visit_U=a_visit_U,
        expected_U=expected_U,
        low_U=expected_U * learnt.low_K[class_U],
        high_U=expected_U * learnt.high_K[class_U],
    )


def _learn(source: Source, moment: datetime, days: int) -> _Learnt:
    """Compare what was expected `days` before the moment with what came. NaN where the log is shorter than twice."""
    earlier = moment - timedelta(days=days)
    if observed_days(source, moment) < 2 * days:
        return _Learnt(*(np.full(1 + len(edges), np.nan) for edges in (AWAY, EXPECTED_VISITS, EXPECTED_VISITS)))
    rhythm = rhythm_at(source, earlier)
    visits_U, spend_U = came_between(source, earlier, moment, rhythm)
    usual_U, away_U = days / rhythm.usual_days_U, _away(rhythm)
    count = len(AWAY) + 1
    overall = visits_U.sum() / max(usual_U.sum(), 1e-9)
    came_K = np.bincount(away_U, weights=visits_U, minlength=count)
    usual_K = np.bincount(away_U, weights=usual_U, minlength=count)
    factor_K = (came_K + PRIOR_VISITS * overall) / (usual_K + PRIOR_VISITS)
    expected_visits_U = usual_U * factor_K[away_U]
    ratio_U = spend_U / np.maximum(expected_visits_U * _a_visit(rhythm), 1e-9)
    class_U = np.searchsorted(EXPECTED_VISITS, expected_visits_U, side="right")
    low_K, high_K = np.zeros(len(EXPECTED_VISITS) + 1), np.zeros(len(EXPECTED_VISITS) + 1)
    for k in range(len(low_K)):
        own_U = ratio_U[class_U == k]
        low_K[k], high_K[k] = np.quantile(own_U if len(own_U) >= FEWEST else ratio_U, [LOW, HIGH])
    return _Learnt(factor_K, low_K, high_K)


def _away(rhythm: Rhythm) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(AWAY, rhythm.recency_days_U / rhythm.usual_days_U, side="right"))


def _a_visit(rhythm: Rhythm) -> Floats:
    num_U = rhythm.num_visits_U
    mean_U = rhythm.units_U / num_U
    inside = float((rhythm.units_squared_U - num_U * mean_U**2).sum() / max((num_U - 1).sum(), 1))
    return Credibility.fit(mean_U, num_U, noise=max(inside, 1e-9)).drawn(mean_U, num_U)


def came_between(source: Source, earlier: datetime, moment: datetime, rhythm: Rhythm) -> tuple[Floats, Floats]:
    """Visits and spend of the rhythm's users from the earlier moment up to this one."""
    lines = lines_at(source, moment)
    lines = lines.filter(lines.event_time >= ibis.literal(earlier, TIME_TYPE))
    came = lines.group_by("user_id").agg(visits=lines.day.nunique(), cents=lines.cents.sum()).to_pyarrow()
    visits_U = aligned(came, "visits", rhythm.user_ids, missing=0.0)
    spend_U = aligned(came, "cents", rhythm.user_ids, missing=0.0) / source.minor_units
    return visits_U, spend_U
