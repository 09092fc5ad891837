"""A seasonal synthetic shop: week, year, trend, holidays, a sale, hours of the day, a catalogue with prices, campaigns.

All numbers are chosen by hand so that the shop looks plausible: its volume doubles in December, Sundays are quiet, one
holiday is closed, and users join and leave.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.tables import TIME
from recommender.datasets.time_units import DAY_US

Frames = dict[str, pa.Table]
FIRST_DAY = date(2024, 9, 2)
"""A Monday. The year has no meaning."""
WEEK = np.array([1.0, 0.9, 0.95, 1.05, 1.35, 1.6, 0.6])
"""Volume of each weekday from Monday, by hand: a shop that is busy before the weekend."""
HOURS = np.array([1, 0.5, 0.3, 0.2, 0.2, 0.4, 1, 2, 4, 5, 6, 7, 8, 7, 6, 6, 7, 8, 9, 10, 9, 7, 4, 2.0])
"""Volume of each hour from midnight, by hand: a shop of the day and the evening."""
DEPARTMENTS = ("Pantry", "Fresh", "Sweets", "Home", "Garden")


@dataclass(frozen=True, eq=False)
class SeasonalShop:
    """A shop of `num_days` days. `until(day)` is its export on the morning after a day."""

    frames: Frames
    num_days: int

    @classmethod
    def drawn(
        cls, *, seed: int, num_days: int = 460, events_a_day: float = 260, num_users: int = 900
    ) -> "SeasonalShop":
        """Draw a shop.

        Args:
            seed: another seed is another shop.
            num_days: days from `FIRST_DAY`.
            events_a_day: mean of the first days. The shop grows by a half in a year.
            num_users: users, of whom a fifth join later and a tenth leave.
        """
        rng = np.random.default_rng([seed, 27])
        price_I = np.round(rng.lognormal(1.8, 0.6, size=200), 2)
        events = _events(rng, num_days, events_a_day, num_users, price_I)
        users = pa.table(
            {
                "user_id": [f"u{row:05d}" for row in range(num_users)],
                "region": rng.choice(["north", "south", "west"], num_users),
            }
        )
        items = pa.table(
            {
                "item_id": [f"i{row:04d}" for row in range(200)],
                "name": [f"thing {row}" for row in range(200)],
                "category": [f"group {row % 20}" for row in range(200)],
                "department": [DEPARTMENTS[row % 5] for row in range(200)],
                "price": price_I,
            }
        )
        return cls({"users": users, "items": items, "events": events, **_campaigns(rng, num_days, num_users)}, num_days)

    def until(self, day: int) -> Frames:
        """Everything known at the end of a day, as its export the next morning would hold it."""
        end = pa.scalar(moment_of(day + 1), TIME)
        frames = dict(self.frames)
        for name, column in (
            ("events", "event_time"),
            ("targets", "targeted_at"),
            ("participations", "participated_at"),
        ):
            frames[name] = frames[name].filter(pc.less(frames[name][column], end))
        started = frames["campaigns"].filter(pc.less(frames["campaigns"]["starts_at"], end))
        frames["campaigns"] = started
        kept = pc.is_in(frames["campaign_items"]["campaign_id"], value_set=started["campaign_id"].combine_chunks())
        frames["campaign_items"] = frames["campaign_items"].filter(kept)
        return frames


def moment_of(day: int) -> datetime:
    """The UTC midnight that begins a day of the shop."""
    return datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC) + timedelta(days=day)


def volumes(rng: np.random.Generator, num_days: int, level: float) -> NDArray[np.float64]:
    """Expected events of each day: trend, week, year, a sale, a closed holiday, and noise that lasts for days."""
    days = np.arange(num_days)
    dates = [FIRST_DAY + timedelta(days=int(day)) for day in days]
    weekday = np.array([day.weekday() for day in dates])
    of_year = np.array([day.timetuple().tm_yday for day in dates])
    season = 1 + 0.5 * np.exp(-(((of_year - 350 + 182) % 365 - 182) ** 2) / (2 * 18**2))
    season *= 1 + 0.15 * np.cos(2 * np.pi * (of_year - 200) / 365)
    noise = np.zeros(num_days)
    for day in range(1, num_days):
        noise[day] = 0.5 * noise[day - 1] + rng.standard_t(6) * 0.05
    volume = level * (1 + 0.5 * days / 365) * WEEK[weekday] * season * np.exp(noise)
    for place, one in enumerate(dates):
        if (one.month, one.day) == (12, 25):
            volume[place] = 0.0
        if one.month == 11 and one.weekday() == 4 and 23 <= one.day <= 29:
            volume[place] *= 2.2
    return np.asarray(volume)


def _events(
    rng: np.random.Generator, num_days: int, level: float, num_users: int, price_I: NDArray[np.float64]
) -> pa.Table:
    counts = rng.poisson(volumes(rng, num_days, level))
    day_E = np.repeat(np.arange(num_days), counts)
    num = len(day_E)
    taste = rng.pareto(2.5, num_users) + 0.3
    joins = np.where(rng.random(num_users) < 0.2, rng.integers(0, num_days, num_users), 0)
    leaves = np.where(rng.random(num_users) < 0.1, rng.integers(num_days // 3, num_days, num_users), num_days)
    user_E = rng.choice(num_users, num, p=taste / taste.sum())
    wrong = (joins[user_E] > day_E) | (leaves[user_E] <= day_E)
    stay = np.flatnonzero((joins == 0) & (leaves == num_days))
    user_E[wrong] = rng.choice(stay, int(wrong.sum()), p=taste[stay] / taste[stay].sum())
    hour_E = rng.choice(24, num, p=HOURS / HOURS.sum())
    time_E = day_E * DAY_US + hour_E * 3_600_000_000 + rng.integers(0, 3_600_000_000, num)
    kind_E = rng.choice(["view", "cart", "purchase"], num, p=[0.55, 0.15, 0.30])
    popular = (np.arange(200) + 3.0) ** -0.7
    item_E = rng.choice(200, num, p=popular / popular.sum())
    bought_E = kind_E == "purchase"
    units_E = 1.0 + rng.poisson(0.4, num)
    off_E = np.where(rng.random(num) < 0.2, 0.15, 0.0)
    paid_E = np.round(price_I[item_E] * units_E * (1 - off_E), 2)
    mask = ~bought_E
    order = np.argsort(time_E, kind="stable")
    table = pa.table(
        {
            "user_id": [f"u{row:05d}" for row in user_E.tolist()],
            "kind": kind_E,
            "event_time": pa.array(time_E + _epoch_us(), TIME),
            "item_id": [f"i{row:04d}" for row in item_E.tolist()],
            "quantity": pa.array(units_E, mask=mask),
            "amount": pa.array(paid_E, mask=mask),
            "discount": pa.array(np.round(price_I[item_E] * units_E * off_E, 2), mask=mask),
            "store_id": pa.array([f"s{row % 4}" for row in user_E.tolist()], mask=mask),
        }
    ).take(pa.array(order))
    return table.add_column(0, "event_id", pa.array([f"e{row:07d}" for row in range(num)]))


def _campaigns(rng: np.random.Generator, num_days: int, num_users: int) -> Frames:
    """A campaign every ten days, of twelve items and two weeks, that targets a third of the users."""
    starts = list(range(30, num_days, 10))
    ids = [f"c{row:03d}" for row in range(len(starts))]
    targets, taken = [], []
    for name, start in zip(ids, starts, strict=True):
        for user in np.flatnonzero(rng.random(num_users) < 0.33).tolist():
            targets.append((name, f"u{user:05d}", moment_of(start)))
            if rng.random() < 0.12:
                taken.append((name, f"u{user:05d}", moment_of(start) + timedelta(days=float(rng.uniform(0.1, 13)))))
    items = [(name, f"i{row:04d}") for name in ids for row in rng.choice(200, 12, replace=False).tolist()]

    def frame(names: tuple[str, ...], rows: list[tuple[object, ...]]) -> pa.Table:
        columns = zip(*rows, strict=True)
        return pa.table(
            {
                name: pa.array(list(values), TIME if name.endswith("_at") else pa.string())
                for name, values in zip(names, columns, strict=True)
            }
        )

    return {
        "campaigns": frame(
            ("campaign_id", "kind", "starts_at", "ends_at"),
            [(n, "promotion", moment_of(s), moment_of(s + 14)) for n, s in zip(ids, starts, strict=True)],
        ),
        "campaign_items": frame(("campaign_id", "item_id"), list(items)),
        "targets": frame(("campaign_id", "user_id", "targeted_at"), list(targets)),
        "participations": frame(("campaign_id", "user_id", "participated_at"), list(taken)),
    }


def _epoch_us() -> int:
    return int(moment_of(0).timestamp()) * 1_000_000
