"""Purchase rhythm: how often a shopper comes, when the next visit is due, and how likely none follows soon.

A renewal model. A visit is a day with a purchase. A user's usual gap is the posterior mean of a gamma-Poisson model
(`shrinkage`), so a user with few visits is drawn to everyone's. Gaps are then measured in units of the usual gap *as it
was known before the gap*, and their common distribution is estimated without a form (Kaplan & Meier, "Nonparametric
estimation from incomplete observations", JASA, 1958). The gaps that are still open count as censored. So a shopper who
has stayed away for long is judged by what became of others who stayed away as long, measured by their own rhythm.

The distribution is estimated by how many gaps a user had before and by how long the usual gap is, each drawn to that of
all.

Shapes: U users · S strata · J bins of scaled gaps.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.facts.columns import aligned
from recommender.features.facts.moments import dates_at, visits_at
from recommender.features.facts.shrinkage import Floats, GammaPoisson
from recommender.features.source import Source

RECENT_GAPS = 20
"""A usual gap is that of at most so many last gaps, so that it follows a change. Chosen of 5, 10, 20 and all, at the
moments that docs/portraits.md names."""
GAPS_BEFORE = (1, 3, 8)
"""Strata by the number of gaps before: none, one or two, up to seven, more. Chosen by hand."""
USUAL_DAYS = (3.0, 7.0, 14.0)
"""Strata by the usual gap in days. Chosen by hand: several times a week, weekly, every other week, more rarely."""
PER_E = 16
"""Bins of scaled gaps for each factor of e, so that a bin is 6 % wide. Chosen by hand."""
LOWEST_BIN, HIGHEST_BIN = -64, 96
"""A scaled gap of 0.02 and of 400: below and above all that matters."""
PRIOR_RISK = 20.0
"""Gaps at risk of all shoppers that a stratum's hazard is drawn to. Chosen by hand."""
LONGEST_DAYS = 365
"""A next visit is not dated beyond this."""


@dataclass(frozen=True, eq=False)
class Rhythm:
    """Everyone with a visit before a moment, in order of identifiers."""

    user_ids: pa.Array
    dates_U: Floats
    """Dates with a visit, by the shop's calendar."""
    num_visits_U: Floats
    """Days with a visit, of 24 hours each, back from the moment. What is expected is learned from these."""
    first_days_U: Floats
    """Days since the first visit."""
    recency_days_U: Floats
    """Days since the last visit."""
    usual_days_U: Floats
    """The usual gap, shrunk."""
    variation_U: Floats
    """Standard deviation of the gaps over their mean. NaN with fewer than three gaps."""
    units_U: Floats
    units_squared_U: Floats
    hazard_SJ: Floats
    """Cumulative hazard at the upper edge of each bin."""
    stratum_U: NDArray[np.int64]

    def none_within(self, days: float | Floats) -> Floats:
        """Probability of no visit in the next days, given that there was none since the last one, float64 [U]."""
        start_U = self._hazard(self.recency_days_U / self.usual_days_U)
        end_U = self._hazard((self.recency_days_U + days) / self.usual_days_U)
        return np.asarray(np.exp(start_U - end_U))

    def due_days(self, share: float) -> Floats:
        """Days until which the next visit comes with a probability. NaN if that lies beyond `LONGEST_DAYS`."""
        low_U, high_U = np.zeros(len(self.stratum_U)), np.full(len(self.stratum_U), float(LONGEST_DAYS + 1))
        while (high_U - low_U > 1).any():
            middle_U = (low_U + high_U) // 2
            reached_U = 1 - self.none_within(middle_U) >= share
            high_U, low_U = np.where(reached_U, middle_U, high_U), np.where(reached_U, low_U, middle_U)
        return np.where(high_U > LONGEST_DAYS, np.nan, high_U)

    def _hazard(self, scaled_U: Floats) -> Floats:
        """Cumulative hazard up to a scaled time, straight between the edges of the bins."""
        place_U = np.log(np.maximum(scaled_U, 1e-9)) * PER_E - LOWEST_BIN
        place_U = np.clip(place_U, 0.0, self.hazard_SJ.shape[1] - 1.0)
        below_U = np.minimum(place_U.astype(np.int64), self.hazard_SJ.shape[1] - 2)
        part_U = place_U - below_U
        rows_U = self.stratum_U
        return np.asarray(self.hazard_SJ[rows_U, below_U] * (1 - part_U) + self.hazard_SJ[rows_U, below_U + 1] * part_U)


def rhythm_at(source: Source, moment: datetime) -> Rhythm:
    """Learn the rhythm of all users from their visits strictly before a moment."""
    visits = visits_at(source, moment).cache()
    users = _users(visits)
    first_U, last_U = users["first"].to_numpy().astype(np.float64), users["last"].to_numpy().astype(np.float64)
    num_U = users["visits"].to_numpy().astype(np.float64)
    model = GammaPoisson.fit(num_U - 1, first_U)
    prior_U, days_U = users["prior"].to_numpy().astype(np.float64), users["prior_days"].to_numpy().astype(np.float64)
    usual_U = 1 / model.mean(prior_U, days_U)
    user_ids = users["user_id"].combine_chunks()
    return Rhythm(
        user_ids=user_ids,
        dates_U=aligned(dates_at(source, moment).to_pyarrow(), "dates", user_ids),
        num_visits_U=num_U,
        first_days_U=first_U,
        recency_days_U=last_U,
        usual_days_U=usual_U,
        variation_U=_variation(num_U, first_U - last_U, users["squares"].to_numpy(zero_copy_only=False)),
        units_U=users["units"].to_numpy().astype(np.float64),
        units_squared_U=users["units_squared"].to_numpy().astype(np.float64),
        hazard_SJ=_hazards(visits, users, model, last_U / usual_U, prior_U, usual_U),
        stratum_U=_stratum(prior_U, usual_U),
    )


def _gaps(visits: ir.Table) -> ir.Table:
    """Each visit with the gap that it ended, and what was known before it: number and length of the last gaps."""
    order: Any = {"group_by": visits.user_id, "order_by": visits.day.desc()}
    placed = visits.select(
        "user_id",
        "day",
        place=ibis.row_number().over(**order),
        previous=visits.day.lag().over(**order),
        start=ibis.coalesce(
            visits.day.lag(RECENT_GAPS + 1).over(**order), visits.day.max().over(group_by=visits.user_id)
        ),
    )
    placed = placed.filter(placed.place > 0)
    return placed.select(
        "user_id",
        gap=placed.previous - placed.day,
        prior=ibis.least(placed.place - 1, RECENT_GAPS),
        prior_days=placed.start - placed.previous,
    )


def _users(visits: ir.Table) -> pa.Table:
    """One row for each user with a visit: counts, and number and length of the last gaps before the open one."""
    place = ibis.row_number().over(group_by=visits.user_id, order_by=visits.day)
    back = visits.select("user_id", "day", place=place)
    start = back.filter(back.place <= RECENT_GAPS)
    recent = start.group_by("user_id").agg(
        prior=start.count() - 1, prior_days=start.day.max() - start.day.min(), last=start.day.min()
    )
    gaps = _gaps(visits)
    squares = gaps.group_by("user_id").agg(squares=(gaps.gap * gaps.gap).sum())
    whole = visits.group_by("user_id").agg(
        visits=visits.count(),
        first=visits.day.max(),
        units=visits.units.sum(),
        units_squared=(visits.units * visits.units).sum(),
    )
    joined = whole.inner_join(recent, "user_id").left_join(squares, "user_id")
    joined = joined.mutate(squares=joined.squares.fill_null(0)).drop("user_id_right")
    return joined.order_by("user_id").to_pyarrow()


def _variation(num_U: Floats, total_U: Floats, squares_U: NDArray[np.int64]) -> Floats:
    gaps_U = num_U - 1
    mean_U = total_U / np.maximum(gaps_U, 1)
    spread_U = np.sqrt(np.maximum(squares_U / np.maximum(gaps_U, 1) - mean_U**2, 0))
    return np.where(gaps_U >= 3, spread_U / np.maximum(mean_U, 1e-9), np.nan)


def _stratum(prior_U: Floats, usual_U: Floats) -> NDArray[np.int64]:
    by_count_U = np.searchsorted(GAPS_BEFORE, prior_U, side="right")
    return np.asarray(by_count_U * (len(USUAL_DAYS) + 1) + np.searchsorted(USUAL_DAYS, usual_U, side="right"))


def _hazards(
    visits: ir.Table, users: pa.Table, model: GammaPoisson, open_U: Floats, prior_U: Floats, usual_U: Floats
) -> Floats:
    """Cumulative hazards of scaled gaps, float64 [S, J]."""
    # Gaps by what was known before them: few distinct combinations, whatever the number of events.
    gaps = _gaps(visits)
    counted = gaps.group_by("prior", "prior_days", "gap").agg(count=gaps.count()).order_by("prior", "prior_days", "gap")
    ended = counted.to_pyarrow()
    prior_G, days_G = (ended[name].to_numpy().astype(np.float64) for name in ("prior", "prior_days"))
    usual_G = 1 / model.mean(prior_G, days_G)
    # A gap of whole days ended at any time of its last day: half a day earlier on average.
    scaled_G = (ended["gap"].to_numpy() - 0.5) / usual_G
    num_strata = (len(GAPS_BEFORE) + 1) * (len(USUAL_DAYS) + 1)
    num_bins = HIGHEST_BIN - LOWEST_BIN
    shape = (num_strata, num_bins)
    ended_SJ, open_SJ = np.zeros(shape), np.zeros(shape)
    np.add.at(ended_SJ, (_stratum(prior_G, usual_G), _bins(scaled_G)), ended["count"].to_numpy().astype(np.float64))
    waited_U = open_U > 0  # Who came on the last day has waited for no time at all.
    np.add.at(open_SJ, (_stratum(prior_U, usual_U)[waited_U], _bins(open_U[waited_U])), 1.0)
    everyone_J = _by_bin(ended_SJ.sum(axis=0, keepdims=True), open_SJ.sum(axis=0, keepdims=True), 0.0, 0.0)
    own_SJ = _by_bin(ended_SJ, open_SJ, PRIOR_RISK, everyone_J)
    return np.concatenate([np.zeros((num_strata, 1)), np.cumsum(own_SJ, axis=1)], axis=1)


def _by_bin(ended_SJ: Floats, open_SJ: Floats, prior_risk: float, prior_J: Floats | float) -> Floats:
    """Hazard of each bin: ended over at risk. Who is censored inside a bin was at risk for half of it."""
    leaving_SJ = ended_SJ + open_SJ
    risk_SJ = leaving_SJ[:, ::-1].cumsum(axis=1)[:, ::-1] - open_SJ / 2
    share_SJ = (ended_SJ + prior_risk * -np.expm1(-np.asarray(prior_J))) / np.maximum(risk_SJ + prior_risk, 1e-9)
    return np.asarray(-np.log1p(-np.minimum(share_SJ, 1 - 1e-9)))


def _bins(scaled: Floats) -> NDArray[np.int64]:
    place = np.floor(np.log(np.maximum(scaled, 1e-9)) * PER_E).astype(np.int64) - LOWEST_BIN
    return np.asarray(np.clip(place, 0, HIGHEST_BIN - LOWEST_BIN - 1))
