"""The moment at which a decision is made: the setting `time.as_of`, or the wall clock where it is not set."""

import time
from datetime import UTC, datetime

from recommender.datasets.time_units import DAY_S, SECOND_US
from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home


def decision_time_us(settings: Settings) -> int:
    """The moment at which a decision is made now, µs since 1970, UTC.

    A date or a time without a zone is meant in the shop's time zone. The materialise step knew that zone when it
    resolved the same setting, so the moment in its schema is taken. Before anything was materialised no zone is known,
    and UTC is used.
    """
    as_of = settings.time.as_of
    if as_of is None:
        return time.time_ns() // 1000
    if not isinstance(as_of, datetime):
        as_of = datetime(as_of.year, as_of.month, as_of.day)
    if as_of.tzinfo is None:
        try:
            as_of = datetime.fromisoformat(ServingSchema.load(Home.of(settings).feature_store.root).as_of)
        except FeatureStoreError:
            as_of = as_of.replace(tzinfo=UTC)
    return to_us(as_of)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, exactly, where a moment without a zone is taken as UTC."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * DAY_S + since.seconds) * SECOND_US + since.microseconds


def iso(us: int) -> str:
    """A moment (µs since 1970) as ISO 8601, UTC."""
    return datetime.fromtimestamp(us / SECOND_US, UTC).isoformat()
