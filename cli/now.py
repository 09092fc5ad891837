"""What "now" is for an endpoint that is started by hand."""

from datetime import datetime

from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings


def now_is(as_of: datetime, settings: Settings) -> Settings:
    """The same settings with "now" fixed at `as_of`."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    values["time"] = settings.time.model_copy(update={"as_of": as_of})
    return Settings.model_construct(**values)


def as_materialised(settings: Settings) -> Settings:
    """Where the settings leave `as_of` open: "now" is the moment for which the features were built, and that is said."""
    if settings.time.as_of is not None:
        return settings
    try:
        as_of = datetime.fromisoformat(ServingSchema.load(settings.home / "feature_store").as_of)
    except FeatureStoreError:
        return settings  # nothing was materialised: the endpoint says so itself
    print(f'"now" is {as_of.isoformat()}, the moment of the features; --as-of says otherwise')
    return now_is(as_of, settings)
