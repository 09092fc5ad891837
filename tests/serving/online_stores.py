"""What the tests of the online store client share."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from feature_sets import AS_OF

from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import ServingSettings, Settings, StoreSettings
from recommender.storage.home import Home

ODD_IDS = [
    "",
    " ",
    "1",
    "user 3",
    "ü",
    "用户画像",
    "🛒" * 40,
    "x" * 100_000,
    "a\x00b",
    "'; DROP TABLE x; --",
    '"',
    "-1",
    "campaigns",
]


PATIENT = ServingSettings(store_deadline_ms=60_000)
"""A store whose own time-outs are a minute: a read that ends sooner was ended by the time that it was given."""


KINDS = ["sqlite", "redis", "postgres"]


def settings_of(kind: str, home: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty store of this kind, on a server that is started for real."""
    store = StoreSettings()
    if kind == "redis":
        store = StoreSettings(kind="redis", redis_url=request.getfixturevalue("redis_url"))
    elif kind == "postgres":
        url = str(request.getfixturevalue("database_url")).replace("postgresql+psycopg:", "postgresql:")
        store = StoreSettings(kind="postgres", postgres_url=url)
    return Settings(home=home, store=store, serving=PATIENT)


def ends_in_time(action: Callable[[], object], words: str) -> bool:
    """Whether it failed, with these words, in far less than a store's minute: also on a machine that is busy."""
    start = time.monotonic()
    with pytest.raises(FeatureStoreError, match=words):
        action()
    return time.monotonic() - start < 20


def write_schema(settings: Settings) -> None:
    Home.of(settings).feature_store.root.mkdir(parents=True)
    ServingSchema(
        project="campaigns",
        view="user_serving",
        field="packed",
        join_key="user_id",
        entity_key_serialization_version=3,
        layouts=(("base__f0",),),
        features_hash="",
        catalogue_hash="",
        as_of=AS_OF.isoformat(),
    ).save(Home.of(settings).feature_store.root)
