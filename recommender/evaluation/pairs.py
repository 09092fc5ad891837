"""The pairs that a period judges, with what came of them.

Shapes: N pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.periods import Periods, microseconds
from recommender.errors import LabelError, PeriodError
from recommender.matching.examples import Examples, Labels

END_OF_LOG = datetime(9999, 1, 1, tzinfo=UTC)


class PairSet(Protocol):
    """The pairs that are judged: what `training.sets.TrainingSet` offers."""

    @property
    def pairs(self) -> pa.Table:
        """user_id, starts_at, ends_at, decided_at, campaign_type and the segments' columns."""

    @property
    def segments(self) -> Sequence[str]:
        """Columns of `pairs` that hold portrait segments."""

    @property
    def log_end(self) -> datetime:
        """Outcomes after it are unknown."""

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        """The picked pairs, in their order."""

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels:
        """What was known of the picked pairs at `boundary`."""

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        """Functions that build the examples of one user and all campaigns live at `moment`, for `count` users; how many campaigns."""


@dataclass(frozen=True, eq=False)
class PeriodPairs:
    """The pairs of one period with what came of them; `mask` picks them from the training set."""

    starts: datetime
    ends: datetime
    known_at: datetime | None
    mask: NDArray[np.bool_]
    labels: Labels
    users_N: NDArray[np.int64]
    open_N: NDArray[np.bool_]
    examples: Examples


def gate_pairs(data: PairSet, periods: Periods) -> PeriodPairs:
    """The pairs that decide, with the labels that were known when their period ended.

    Raises:
        PeriodError: there are none.
        LabelError: all have the same outcome.
    """
    mask = periods.gate_mask(times(data, "starts_at"), times(data, "decided_at"))
    if not mask.any():
        raise PeriodError(
            f"the gate period from {periods.gate_from.isoformat()} to {periods.test_from.isoformat()} holds no pair. Change "
            "`time.gate_from` and `time.test_from` in the settings, or leave them out."
        )
    period = _pick(data, mask, periods.gate_from, periods.test_from, periods.test_from)
    found, total = int(period.labels.redeemed_N.sum()), len(period.labels.redeemed_N)
    if found in (0, total):
        raise LabelError(
            f"the gate period from {periods.gate_from.isoformat()} to {periods.test_from.isoformat()} has {found} participations "
            f"among {total} pairs; both outcomes are needed. Change `time.gate_from` and `time.test_from`."
        )
    return period


def final_test_pairs(data: PairSet, periods: Periods) -> PeriodPairs | None:
    """The pairs of the final test, with labels to the end of the log; None where nothing was decided since `test_from`."""
    mask = periods.test_mask(times(data, "starts_at"), times(data, "decided_at"))
    return _pick(data, mask, periods.test_from, periods.as_of, None) if mask.any() else None


def _pick(
    data: PairSet, mask: NDArray[np.bool_], starts: datetime, ends: datetime, known_at: datetime | None
) -> PeriodPairs:
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
    return PeriodPairs(starts, ends, known_at, mask, labels, users_N, open_N, data.examples(mask))


def column(data: PairSet, name: str) -> NDArray[np.object_]:
    """A column of the pairs as Python values, [all pairs]."""
    return np.array(data.pairs.column(name).to_pylist(), dtype=object)


def times(data: PairSet, name: str) -> NDArray[np.int64]:
    """A column of moments as microseconds since 1970, UTC, [all pairs]."""
    column = data.pairs.column(name).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.int64)
