"""What "now" is for an endpoint that is started by hand."""

from datetime import datetime

from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home


def now_is(as_of: datetime, settings: Settings) -> Settings:
    """The same settings with "now" fixed at `as_of`."""
    return settings.updated(time={"as_of": as_of})


def as_materialised(settings: Settings) -> Settings:
    """Where the settings leave `as_of` open: "now" is the moment for which the features were built, and that is said."""
    if settings.time.as_of is not None:
        return settings
    try:
        as_of = datetime.fromisoformat(ServingSchema.load(Home.of(settings).feature_store.root).as_of)
    except FeatureStoreError:
        return settings  # nothing was materialised: the endpoint says so itself
    print(f'"now" is {as_of.isoformat()}, the moment of the features; --as-of says otherwise')
    return now_is(as_of, settings)
