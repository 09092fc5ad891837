"""How often the limits of the newest days alarm on good days: many simulated shops, without any table.

Figures are drawn with week, season, trend, holidays, dependence from day to day and between figures, and tails as heavy
as Student's t with four degrees of freedom. One day is one draw; all checks of `newest` look at it together.
"""

import numpy as np

from benchmarks.accidents.shop import FIRST_DAY, HOURS, volumes
from recommender.datasets.checks.newest import newest
from recommender.datasets.statistics import Statistics

SHOPS, DAYS = 12, 100
HISTORIES = (90, 200, 420)
"""Days before the first judged day: a young shop, a half-year, and more than a year."""


def false_alarms(*, seed: int, shops: int = SHOPS, days: int = DAYS) -> dict[str, float]:
    """Days with an alarm, and all days, over shops of several ages."""
    alarmed = total = 0
    for shop in range(shops):
        rng = np.random.default_rng([seed, shop, 28])
        history = HISTORIES[shop % len(HISTORIES)]
        figures = _drawn(rng, history + days, scale=float(rng.uniform(0.5, 2.0)))
        for day in range(history, history + days):
            total += 1
            alarmed += any(not check.holds for check in newest(_until(figures, day)))
    return {"days": total, "alarmed": alarmed, "share": alarmed / total}


def _until(figures: dict[str, np.ndarray], day: int) -> Statistics:
    known = {name: values[: day + 1] for name, values in figures.items()}
    weeks = [7 * week for week in range(20) if day - 7 * week >= 0]
    returning = tuple(float(figures["returning"][day - back]) for back in reversed(weeks))
    return Statistics(
        first_day=FIRST_DAY,
        days={name: values for name, values in known.items() if name != "returning"},
        columns={},
        keys={"users with events": (1,)},
        returning=returning,
    )


def _drawn(rng: np.random.Generator, num_days: int, *, scale: float) -> dict[str, np.ndarray]:
    """Figures of every day. `scale`: how noisy the shop is."""

    def noise(size: float) -> np.ndarray:
        steps = rng.standard_t(4, num_days) * size * scale
        for day in range(1, num_days):
            steps[day] += 0.4 * steps[day - 1]
        return steps

    volume = volumes(rng, num_days, 400.0) * np.exp(noise(0.04))
    rows = rng.poisson(volume).astype(float)
    shares = {"view": 0.55, "cart": 0.15, "purchase": 0.3}
    kinds = {f"kind:{kind}": rows * share * np.exp(noise(0.04)) for kind, share in shares.items()}
    hours = {f"hour:{hour}": rows * share for hour, share in enumerate(HOURS / HOURS.sum())}
    return {
        "rows": rows,
        "users": np.round(rows**0.9 * np.exp(noise(0.03))),
        **kinds,
        **hours,
        "log:amount": 2.0 + noise(0.05),
        "log:quantity": 0.2 + noise(0.02),
        "null:store_id": np.clip(0.1 + noise(0.02), 0, 1),
        "null:item_id": np.clip(0.02 + noise(0.01), 0, 1),
        "last_hour": 24 - rng.exponential(0.1, num_days),
        "returning": np.clip(0.6 + noise(0.02), 0, 1),
    }
