"""How old tables, views of the feature store and the champion's training are, against what the settings promise."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from recommender.datasets.contract import open_views
from recommender.datasets.tables import Tables
from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.monitoring.findings import Age, Finding
from recommender.registry import Registry
from recommender.registry.candidates import boundaries
from recommender.settings import Settings
from recommender.storage.home import Home

TIMES = {
    "events": "event_time",
    "participations": "participated_at",
    "targets": "targeted_at",
    "campaigns": "starts_at",
}
"""Table -> the column that says when a row came to be."""
FILES = {"user_features": "users", "campaign_features": "campaigns", "item_features": "items"}
"""View of the newest feature set -> its file."""
REMEDIES = {
    "user_serving": "Run `recommender refresh`, and look why its schedule did not run.",
    "champion": "Train again: recommender run.",
    **dict.fromkeys(FILES, "Run `recommender refresh`."),
    **dict.fromkeys(TIMES, "Look at the export that fills it: newer rows did not reach the source."),
}
HOUR = timedelta(hours=1)


def ages(tables: Tables, features: Path, settings: Settings, *, now: datetime) -> list[Age]:
    """The age of everything that has one at `now`. What is newer than `now` has the age 0."""
    newest = {**_of_tables(tables), **_of_features(features), "user_serving": _of_serving(settings)}
    newest["champion"] = _of_champion(settings)
    promises = settings.monitoring.max_age_hours
    return [
        Age(
            name=name,
            newest=time,
            hours=None if time is None else max(0.0, (now - time) / HOUR),
            promise_hours=promises.get(name),  # type: ignore[call-overload]  # names are those of the settings
        )
        for name, time in newest.items()
    ]


def age_findings(found: list[Age]) -> list[Finding]:
    """One for each promise that is broken, the worst first. What does not exist breaks its promise too."""
    broken = [
        one for one in found if one.promise_hours is not None and (one.hours is None or one.hours > one.promise_hours)
    ]
    return [_finding(one) for one in sorted(broken, key=_times_its_promise, reverse=True)]


def in_words(hours: float) -> str:
    """An age for people: hours below two days, else days."""
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def age_in_words(age: Age, now: datetime) -> str:
    """The age of a table or view for people. What is newer than `now` has none, and says so."""
    if age.newest is None or age.hours is None:
        return "–"
    return "later than now" if age.newest > now else in_words(age.hours)


def _times_its_promise(one: Age) -> float:
    return float("inf") if one.hours is None or not one.promise_hours else one.hours / one.promise_hours


def _finding(one: Age) -> Finding:
    promise = one.promise_hours or 0.0
    limit = f"monitoring.max_age_hours.{one.name} promises {in_words(promise)}"
    if one.newest is None or one.hours is None:
        words = f"{one.name}: there is none, and {limit}."
    else:
        words = f"{one.name}: {in_words(one.hours)} old (newest: {one.newest:%Y-%m-%d %H:%M} UTC), and {limit}."
    return Finding(
        kind="age",
        about=f"age of {one.name}",
        breaks=True,
        words=words,
        remedy=REMEDIES[one.name],
        measured=one.hours,
        limit=promise,
    )


def _of_tables(tables: Tables) -> dict[str, datetime | None]:
    with open_views(tables) as connection:
        return {
            name: _moment(connection.execute(f"SELECT epoch_us(max({time})) FROM {name}").fetchone())
            if tables.has(name)
            else None
            for name, time in TIMES.items()
        }


def _moment(row: tuple[int | None] | None) -> datetime | None:
    from recommender.datasets.periods import from_microseconds

    return None if row is None or row[0] is None else from_microseconds(row[0])


def _of_features(features: Path) -> Mapping[str, datetime | None]:
    import pyarrow.compute as pc

    found: dict[str, datetime | None] = {}
    for view, entity in FILES.items():
        times = pq.read_table(features / f"{entity}.parquet", columns=["event_timestamp"])["event_timestamp"]
        found[view] = pc.max(times).as_py()
    return found


def _of_serving(settings: Settings) -> datetime | None:
    """The moment of the last materialisation: older rows of the online store belong to users who are gone."""
    try:
        return datetime.fromisoformat(ServingSchema.load(Home.of(settings).feature_store.root).as_of)
    except FeatureStoreError:
        return None


def _of_champion(settings: Settings) -> datetime | None:
    registry = Registry(settings.home)
    version = registry.champion()
    return None if version is None else boundaries(registry.path(version)).get("live")
