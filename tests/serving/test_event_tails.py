"""Tails of events in every kind of online store: appended once, read with the row, shortened, kept by a new row."""

import asyncio
from pathlib import Path

import pytest
from feature_sets import shop
from online_stores import KINDS, settings_of

from feature_repo import materialise
from recommender.settings import Settings
from serving.event_tails.append import Append
from serving.event_tails.tails import Tails, open_tails
from serving.online_store.client import OnlineStoreClient

WITHIN_S = 20.0


def one(number: int, user: str = "user 3", *, old: bytes = b"", kept: bytes = b"") -> Append:
    return Append(user, f"id {number}", b"line %d\n" % number, b'{"event_id": %d}' % number, old, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tail_is_read_with_the_row_and_stays_beside_a_new_one(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(kind, tmp_path / "var", request)
    materialise(shop(tmp_path / "old", num_users=5), settings)
    asyncio.run(appended(settings, tmp_path))


async def appended(settings: Settings, folder: Path) -> None:
    tails: Tails = open_tails(settings)
    store = OnlineStoreClient.open(settings)

    async def tail(user: str = "user 3") -> bytes:
        found = await store.read_async(user, WITHIN_S)
        assert found is not None
        assert store.read(user, WITHIN_S) == found
        return found.tail

    assert await tail() == b""
    assert await tails.append([one(1), one(2), one(3, "user 4")], WITHIN_S) == [True, True, True]
    assert await tail() == b"line 1\nline 2\n"
    assert await tail("user 4") == b"line 3\n"
    assert await tails.append([one(2), one(4), one(1)], WITHIN_S) == [False, True, False]
    assert await tail() == b"line 1\nline 2\nline 4\n"
    materialise(shop(folder / "new", num_users=5, seed=2), settings)
    assert await tail() == b"line 1\nline 2\nline 4\n"
    assert await tails.append([one(5, old=await tail(), kept=b"line 4\n")], WITHIN_S) == [True]
    assert await tail() == b"line 4\nline 5\n"
    # Another gateway appended meanwhile: nothing of that is shortened away.
    assert await tails.append([one(6, old=b"line 4\n", kept=b"")], WITHIN_S) == [True]
    assert await tail() == b"line 4\nline 5\nline 6\n"
    tails.close()
    store.close()
