"""One suite for every online store, each on a real server: the same rows in, the same users out."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feature_sets import AS_OF, read_shopper, shop, users_table, write_feature_set
from online_stores import KINDS, settings_of

from feature_repo import materialise, online
from feature_repo.definitions import PUSH_SOURCE, SERVING_FIELD, TIMESTAMP, portrait_names
from feature_repo.environment import open_store
from feature_repo.online import shoppers_of
from feature_repo.online_stores import writer_of
from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import PackedUser, pack
from recommender.settings import Settings
from serving.online_store.client import OnlineStoreClient

IDS = ["", "user 3", "用户画像", "🛒", "a\x00b"]
NEWER = AS_OF + timedelta(hours=1)
"""An hour after the moment for which the features were built: something happened to the user meanwhile."""


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_of(request.param, tmp_path / "var", request)


@pytest.fixture
def client(settings: Settings) -> Iterator[OnlineStoreClient]:
    with closing(OnlineStoreClient.open(settings)) as client:
        yield client


def push(settings: Settings, moments: list[tuple[str, datetime]], *, seed: int) -> list[PackedUser]:
    """Push packed values of these users at these moments, and return what was pushed."""
    users = users_table([user for user, _ in moments], [moment for _, moment in moments], seed=seed)
    values = [pack(shopper) for shopper in shoppers_of(users, portrait_names(users.schema))]
    rows = {"user_id": [user for user, _ in moments], TIMESTAMP: [moment for _, moment in moments]}
    store = open_store(settings)
    try:
        store.push(PUSH_SOURCE, pd.DataFrame({**rows, SERVING_FIELD: values}))
    finally:
        if settings.store.kind == "postgres":
            store.provider.online_store.disconnect()
    return [PackedUser.check(value) for value in values]


def stored(settings: Settings) -> list[PackedUser | None]:
    with closing(OnlineStoreClient.open(settings)) as client:
        return [client.read(user, timeout_s=5) for user in IDS]


def test_a_pushed_row_replaces_the_stored_one_unless_it_is_older(tmp_path: Path, settings: Settings) -> None:
    materialise(write_feature_set(tmp_path / "features", users_table(IDS, [AS_OF] * len(IDS))), settings)
    first = stored(settings)
    late = AS_OF - timedelta(microseconds=1)
    pushed = push(settings, [(IDS[0], NEWER), (IDS[1], late), (IDS[2], AS_OF), ("newcomer", AS_OF)], seed=2)
    assert stored(settings) == [pushed[0], first[1], pushed[2], *first[3:]]
    again = push(settings, [(IDS[0], AS_OF), (IDS[1], NEWER), (IDS[1], AS_OF), ("newcomer", late)], seed=3)
    assert stored(settings) == [pushed[0], again[1], pushed[2], *first[3:]]
    with closing(OnlineStoreClient.open(settings)) as client:
        assert client.read("newcomer", timeout_s=5) == pushed[3]


def test_a_push_from_the_future_is_refused_whole_and_names_the_user(tmp_path: Path, settings: Settings) -> None:
    materialise(write_feature_set(tmp_path / "features", users_table(IDS, [AS_OF] * len(IDS))), settings)
    first = stored(settings)
    with pytest.raises(FeatureStoreError, match=r"'用户画像'.*future"):
        push(settings, [(IDS[0], NEWER), (IDS[2], datetime.now(UTC) + timedelta(days=1))], seed=2)
    assert stored(settings) == first


def test_a_materialisation_replaces_what_was_pushed_and_goes_back_to_earlier_features(
    tmp_path: Path, settings: Settings
) -> None:
    features = write_feature_set(tmp_path / "features", users_table(IDS, [AS_OF] * len(IDS)))
    materialise(features, settings)
    first = stored(settings)
    push(settings, [(user, NEWER) for user in [*IDS, "newcomer"]], seed=2)
    materialise(features, settings)
    assert stored(settings) == first
    with closing(OnlineStoreClient.open(settings)) as client:
        assert client.read("newcomer", timeout_s=5) is None


def test_corrected_rows_of_the_same_moment_arrive_and_lost_users_go(tmp_path: Path, settings: Settings) -> None:
    expected = Settings(home=tmp_path / "expected")
    for name, num_users, features, seed in (("old", 30, 14, 1), ("new", 20, 9, 2)):
        materialise(shop(tmp_path / name, num_users=num_users, features=features, seed=seed), settings)
    materialise(tmp_path / "new", expected)
    with closing(OnlineStoreClient.open(settings)) as client, closing(OnlineStoreClient.open(expected)) as other:
        for index in range(30):
            found = client.read(f"user {index}", timeout_s=5)
            assert found == other.read(f"user {index}", timeout_s=5)
            assert (found is None) == (index >= 20)


def test_a_materialisation_killed_between_batches_leaves_every_user_readable_and_the_next_one_heals(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "USERS_PER_BATCH", 7)
    materialise(shop(tmp_path / "old", num_users=30), settings)
    before = {f"user {index}": client.read(f"user {index}", timeout_s=5) for index in range(30)}
    new = shop(tmp_path / "new", num_users=20, features=9, seed=2)
    if (child := os.fork()) == 0:
        try:
            kill_in_batch(3, settings)
            materialise(new, settings)
        finally:
            os._exit(1)  # it must not go on with the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    half_way = {user: client.read(user, timeout_s=5) for user in before}
    assert None not in half_way.values()
    assert 0 < sum(half_way[user] != before[user] for user in before) < 20
    assert read_shopper(client, settings, "user 29") is not None
    materialise(new, settings)
    assert sum(client.read(user, timeout_s=5) is None for user in before) == 10
    shopper = read_shopper(client, settings, "user 7")
    assert shopper is not None
    assert len(shopper.portrait_P) == 9


def kill_in_batch(number: int, settings: Settings) -> None:
    """Let this process be killed just before the store gets the batch of this number."""
    cls = type(open_store(settings).provider.online_store)
    replace, calls = cls.replace, iter(range(number - 1))

    def counted(*arguments: object) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments)

    cls.replace = counted


def test_the_store_is_checked_and_only_the_packed_view_is_online(tmp_path: Path, settings: Settings) -> None:
    writer_of(settings).check(settings)
    materialise(shop(tmp_path / "features", num_users=3), settings)
    assert [view.name for view in open_store(settings).list_feature_views() if view.online] == ["user_serving"]
