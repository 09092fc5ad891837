"""The time that counts as "now" for an endpoint that is started by hand."""

import time
from datetime import UTC, datetime

from cli.options import Now
from recommender.errors import FeatureStoreError, SettingsError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.settings.monitoring import WEEKLY_HOURS
from recommender.storage.home import Home


def now_is(as_of: datetime, settings: Settings) -> Settings:
    """These settings with "now" fixed at `as_of`."""
    return settings.updated(time={"as_of": as_of})


def as_materialised(settings: Settings, chosen: Now | None = None) -> Settings:
    """These settings, with "now" as `chosen`. Prints what "now" is, and what that means for events.

    None: the setting `time.as_of` where it is set, else the clock, unless the features are too old for it: demo data
    and old exports have no campaign that is live today.

    Raises:
        SettingsError: `time.as_of` is set, and something else is chosen.
    """
    if settings.time.as_of is not None:
        if chosen is not None:
            raise SettingsError(
                f'--now {chosen}: time.as_of fixes "now" at {settings.time.as_of} already (settings or --as-of); '
                "leave one of them out"
            )
        print(f'"now" is fixed at {settings.time.as_of}. {_FIXED}')
        return settings
    try:
        as_of = datetime.fromisoformat(ServingSchema.load(Home.of(settings).feature_store.root).as_of)
    except FeatureStoreError:
        return settings  # nothing was materialised yet; the endpoint reports it
    age_hours = (time.time() - as_of.timestamp()) / 3_600
    most = settings.monitoring.max_age_hours.get("user_serving", WEEKLY_HOURS)
    if chosen is None:
        chosen = Now.CLOCK if 0 <= age_hours <= most else Now.FEATURES
        why = f"the features are {age_hours:,.1f} h old, and monitoring.max_age_hours.user_serving is {most:g}"
    else:
        why = f"--now {chosen}"
    if chosen is Now.CLOCK:
        print(f'"now" is the clock, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC ({why}). An event without a time gets it.')
        return settings
    print(f'"now" is fixed at {as_of.isoformat()}, the moment of the features ({why}). {_FIXED} {_OPEN_NOW}')
    return now_is(as_of, settings)


_FIXED = (
    "A later event is refused as lying in the future. An event without a time gets this moment: it changes answers, "
    "but no later build of the features counts it before the data go on."
)
_OPEN_NOW = "For a shop that is open now, run `recommender refresh`, or choose --now clock."
