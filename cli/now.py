"""The time that counts as "now" for an endpoint that is started by hand."""

from datetime import datetime

from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home


def now_is(as_of: datetime, settings: Settings) -> Settings:
    """These settings with "now" fixed at `as_of`."""
    return settings.updated(time={"as_of": as_of})


def as_materialised(settings: Settings) -> Settings:
    """These settings, with "now" fixed at the time of the features unless the settings already fix it."""
    if settings.time.as_of is not None:
        return settings
    try:
        as_of = datetime.fromisoformat(ServingSchema.load(Home.of(settings).feature_store.root).as_of)
    except FeatureStoreError:
        return settings  # nothing was materialised yet; the endpoint reports it
    print(f'"now" is {as_of.isoformat()}, the time of the features; choose another time with --as-of')
    return now_is(as_of, settings)
