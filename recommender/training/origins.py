"""Origins of a rolling evaluation: moments at which rankers are fitted, each judged until the next one.

Tashman, "Out-of-sample tests of forecasting accuracy" (International Journal of Forecasting, 2000).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from recommender.datasets.moments import moment
from recommender.datasets.periods import MIN_OF_EACH_CLASS, from_microseconds, microseconds
from recommender.errors import PeriodError, SettingsError

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet


MOST_ORIGINS = 3
"""Origins where their number is not given and the participations allow it. By hand: with more of them, each has less
than a season of the default data."""


@dataclass(frozen=True)
class End:
    """Where a cross-validation ends: the beginning of the gate period or of the final test."""

    name: str
    at: datetime

    @property
    def remedy(self) -> str:
        """What helps where too little lies before the gate period. Empty for the final test."""
        if self.name == "the final test":
            return ""
        return " To judge by the campaigns of the gate period too, up to the final test, use --through-gate."


def spans_before(
    data: "TrainingSet", end: End, count: int | None, origins: Sequence[str]
) -> list[tuple[datetime, datetime]]:
    """The origins and the moments at which they are read, in order; the last one is read at the end.

    Args:
        data: the training set.
        end: campaigns that start before it judge.
        count: number of origins. None: see `most_origins_before`.
        origins: dates or times of the origins in the shops' time zone, instead of `count`.

    Raises:
        SettingsError: An origin is neither a date nor a time.
        PeriodError: Campaigns start at too few moments, or an origin is not before the end.
    """
    try:
        if origins:
            starts = origins_given(data, origins)
        elif count is None:
            starts = most_origins_before(data, end.at, MOST_ORIGINS, name=end.name)
        else:
            starts = origins_before(data, end.at, count, name=end.name, parts="origins")
    except PeriodError as error:
        raise PeriodError(f"{error}{end.remedy}") from None
    if starts[-1] >= end.at:
        raise PeriodError(
            f"the origin {starts[-1].isoformat()} must be before {end.name}, which begins at {end.at.isoformat()}. "
            f"Choose an earlier origin.{end.remedy}"
        )
    return list(pairwise([*starts, end.at]))


def origins_before(data: "TrainingSet", last: datetime, count: int, *, name: str, parts: str) -> list[datetime]:
    """Divide the pairs before `last` at starts of campaigns into `count` + 1 parts of about equal size.

    Returns the starts of all parts but the first, which is only trained on.

    Args:
        data: the training set.
        last: end of the last part.
        count: number of parts that judge.
        name: of `last`, for the error.
        parts: what the parts are called, for the error.

    Raises:
        PeriodError: Campaigns start at too few moments.
    """
    starts = np.sort(data.times_us("starts_at")[data.decided_in(None, last)])
    starts = starts[starts < microseconds(last)]
    cuts = [int(starts[len(starts) * part // (count + 1)]) for part in range(1, count + 1)] if len(starts) else []
    if len(set(cuts)) < count or cuts[0] == starts[0]:
        raise PeriodError(
            f"campaigns start at {len(np.unique(starts))} moments before {name}, too few for {count} {parts}. "
            f"Ask for fewer {parts}."
        )
    return [from_microseconds(cut) for cut in cuts]


def most_origins_before(data: "TrainingSet", last: datetime, most: int, *, name: str) -> list[datetime]:
    """Divide the pairs before `last` as `origins_before`, with as many origins as the participations allow.

    It is the largest number up to `most` with which each origin is judged by at least `MIN_OF_EACH_CLASS`
    participations and as many pairs without one, as known at its end. Where no number gives that it is one.

    Raises:
        PeriodError: Campaigns start at too few moments for one origin.
    """
    for count in range(most, 1, -1):
        try:
            starts = origins_before(data, last, count, name=name, parts="origins")
        except PeriodError:
            continue
        if all(_fewest(data, *span) >= MIN_OF_EACH_CLASS for span in pairwise([*starts, last])):
            return starts
    return origins_before(data, last, 1, name=name, parts="origins")


def origins_given(data: "TrainingSet", texts: Sequence[str]) -> list[datetime]:
    """Read origins in the shops' time zone, in order and each once.

    Raises:
        SettingsError: One is neither a date nor a time.
    """
    try:
        return sorted({moment(datetime.fromisoformat(text), data.time_zone) for text in texts})
    except ValueError as error:
        raise SettingsError(f"origins: {error}; write a date such as 2017-05-01") from None


def _fewest(data: "TrainingSet", starts: datetime, ends: datetime) -> int:
    """Count the participations, known at `ends`, of campaigns that start in a period, or its other pairs if fewer."""
    starts_N, redeemed_N = data.times_us("starts_at"), data.times_us("redeemed_at")
    low, high = microseconds(starts), microseconds(ends)
    judged_N = data.decided_in(starts, ends) & (starts_N >= low) & (starts_N < high)
    positives = int((judged_N & (redeemed_N < high)).sum())
    return min(positives, int(judged_N.sum()) - positives)
