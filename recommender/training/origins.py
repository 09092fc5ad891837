"""Origins of a rolling evaluation: moments at which rankers are fitted, each judged until the next one.

Tashman, "Out-of-sample tests of forecasting accuracy" (International Journal of Forecasting, 2000).
"""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from recommender.datasets.periods import from_microseconds, microseconds
from recommender.errors import PeriodError

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet


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
