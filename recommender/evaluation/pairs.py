"""Selects the pairs on which a period is evaluated, with their labels.

Shapes: N pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.periods import Periods, from_microseconds, microseconds
from recommender.errors import LabelError, PeriodError
from recommender.matching.examples import Examples, Labels

if TYPE_CHECKING:
    # The package `features` loads Ibis, DuckDB and pandas, which the steps that only read an evaluation do without.
    from recommender.features.decision_lists import DecisionLists

END_OF_LOG = datetime(9999, 1, 1, tzinfo=UTC)
"""A boundary after every log: all labels that the log has are known then."""


class PairSet(Protocol):
    """The pairs to evaluate on, in the form of `features.training_set.TrainingSet`."""

    @property
    def pairs(self) -> pa.Table:
        """Columns user_id, campaign_id, starts_at, ends_at, decided_at, campaign_type and those of the segments."""

    @property
    def segments(self) -> Sequence[str]:
        """Columns of `pairs` that hold portrait segments."""

    @property
    def lists(self) -> "DecisionLists":
        """The lists that serving could have given at past decisions. May hold none."""

    @property
    def log_end(self) -> datetime:
        """Time of the last event. Outcomes after it are unknown."""

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        """Select pairs, in their order."""

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels:
        """Return the labels of selected pairs as known at `boundary`."""

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        """Return functions that build the examples of one user and all campaigns live at `moment`, for `count` users.

        The second value is the number of these campaigns.
        """


@dataclass(frozen=True, eq=False)
class PeriodPairs:
    """The pairs of one period with their labels."""

    starts: datetime
    ends: datetime
    known_at: datetime | None
    """Time at which labels were read. None stands for the end of the log."""
    mask: NDArray[np.bool_]
    """Marks the period's pairs among all pairs."""
    labels: Labels
    users_N: NDArray[np.int64]
    """Number of the pair's user, from 0."""
    open_N: NDArray[np.bool_]
    """Whether the pair's window was still open when labels were read."""
    examples: Examples


def gate_pairs(data: PairSet, periods: Periods) -> PeriodPairs:
    """Select the pairs of the gate period, with the labels known at its end.

    Raises:
        PeriodError: there are none.
        LabelError: all have the same outcome.
    """
    remedy = "Change `time.gate_from` and `time.test_from` in the settings, or leave them out."
    return pairs_between(data, periods.gate_from, periods.test_from, name="the gate period", remedy=remedy)


def pairs_between(data: PairSet, starts: datetime, ends: datetime, *, name: str, remedy: str) -> PeriodPairs:
    """Select the pairs decided in [starts, ends) of campaigns that start in it, with the labels known at its end.

    Args:
        data: all pairs.
        starts: first moment of the period.
        ends: its end, at which participations are read.
        name: of the period, for errors.
        remedy: what to do about one.

    Raises:
        PeriodError: there are none.
        LabelError: all have the same outcome.
    """
    mask = Periods(starts, ends, ends).gate_mask(times(data, "starts_at"), times(data, "decided_at"))
    when = f"{name} from {starts.isoformat()} to {ends.isoformat()}"
    if not mask.any():
        raise PeriodError(f"{when} has no pairs. {remedy}")
    period = _select(data, mask, starts, ends, ends)
    positives, total = int(period.labels.redeemed_N.sum()), len(period.labels.redeemed_N)
    if positives in (0, total):
        raise LabelError(
            f"{when} has {positives} participations among {total} pairs, but both outcomes are needed. {remedy}"
        )
    return period


def final_test_pairs(data: PairSet, periods: Periods) -> PeriodPairs | None:
    """Select the pairs of the final test, with all labels of the log. None if nothing was decided since `test_from`."""
    mask = periods.test_mask(times(data, "starts_at"), times(data, "decided_at"))
    return _select(data, mask, periods.test_from, periods.as_of, None) if mask.any() else None


def _select(
    data: PairSet, mask: NDArray[np.bool_], starts: datetime, ends: datetime, known_at: datetime | None
) -> PeriodPairs:
    """Select the pairs of a mask whose label is known. Amounts of pairs with an open window become unknown.

    Labels and scores are read at the same moment: a participation counts if it happened before `known_at`.

    Raises:
        PeriodError: `known_at`, or the end of the log, is not after the decision of any pair.
    """
    reading = known_at or data.log_end
    first_us = int(times(data, "decided_at")[mask].min())
    if microseconds(reading) <= first_us:
        raise PeriodError(
            f"the evaluation reads participations up to {reading.isoformat()}, but its first pair is decided at "
            f"{from_microseconds(first_us).isoformat()}. Read later, or evaluate earlier campaigns."
        )
    labels = data.labels_at(known_at or END_OF_LOG, mask)
    known_N = np.isfinite(labels.redeemed_N)
    if not known_N.all():
        mask = mask.copy()
        mask[np.flatnonzero(mask)[~known_N]] = False
        labels = data.labels_at(known_at or END_OF_LOG, mask)
    open_N = times(data, "ends_at")[mask] > microseconds(known_at or data.log_end)
    unknown = np.where(open_N, np.float32("nan"), np.float32(0))
    labels = Labels(labels.redeemed_N, labels.spend_N + unknown, labels.excess_N + unknown)
    users_N = np.unique(column(data, "user_id")[mask], return_inverse=True)[1].astype(np.int64)
    examples = data.examples(mask).read_at(microseconds(known_at or data.log_end))
    return PeriodPairs(starts, ends, known_at, mask, labels, users_N, open_N, examples)


def column(data: PairSet, name: str) -> NDArray[np.object_]:
    """Return a column of all pairs as Python values."""
    return np.array(data.pairs.column(name).to_pylist(), dtype=object)


def times(data: PairSet, name: str) -> NDArray[np.int64]:
    """Return a column of times of all pairs, microseconds since 1970, UTC."""
    column = data.pairs.column(name).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.int64)
