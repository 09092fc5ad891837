"""Users of the last materialisation, for load tests and benchmarks."""

from recommender.errors import FeatureStoreError
from recommender.settings import Settings
from recommender.storage.home import Home


def some_users(settings: Settings, count: int) -> list[str]:
    """At most `count` user ids, evenly spread over all that the last run materialised.

    Raises:
        FeatureStoreError: There was no run yet. Names the missing file.
    """
    import pyarrow.parquet as pq

    file = Home.of(settings).feature_store.users
    if not file.is_file():
        raise FeatureStoreError(f"{file}: missing; build the features first with: recommender run")
    users = sorted(set(pq.read_table(file, columns=["user_id"])["user_id"].to_pylist()))
    return users[:: max(1, len(users) // count)][:count]
