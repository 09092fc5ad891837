"""Tails of events in every kind of online store: appended once, read with the row, shortened, kept by a new row."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from feature_sets import AS_OF, shop
from online_stores import KINDS, settings_of

from feature_repo import materialise
from recommender.events.contract import Event, Stamped
from recommender.events.tail import line_of
from recommender.matching.packed_user import Newcomer, PackedUser
from recommender.settings import Settings
from serving.event_tails.append import Append
from serving.event_tails.tails import Tails, open_tails
from serving.online_store.client import OnlineStoreClient

WITHIN_S = 20.0


def event(number: int, kind: str, user: str, days: float) -> Append:
    """An event so many days after the moment of the rows."""
    moment_us = round((AS_OF + timedelta(days=days)).timestamp() * 1e6)
    told = Event(event_id=f"e {number}", user_id=user, kind=kind, item_id="i1", campaign_id="c1")
    line = line_of(Stamped(told, moment_us), "20180101-00ff00ff00ff-1")
    return Append(user, told.event_id, line, b"{}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_materialisation_takes_from_all_tails_what_its_rows_have_read(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(kind, tmp_path / "var", request)
    features = shop(tmp_path / "features", num_users=5)
    materialise(features, settings)
    viewed, hidden, later = (
        event(1, "view", "user 1", -2),
        event(2, "hide", "user 1", -1),
        event(3, "view", "user 2", 1),
    )
    read, damaged = event(4, "cart", "user 3", -5), Append("user 4", "e 5", b"no event\n", b"{}")
    asyncio.run(sent(settings, [viewed, hidden, later, read, event(6, "view", "user 2", -3), damaged]))
    materialise(features, settings)
    store = OnlineStoreClient.open(settings)
    tails = {user: row.tail for user in ("user 1", "user 2", "user 3", "user 4") if (row := store.read(user, WITHIN_S))}
    store.close()
    # What hides a campaign stays, because no row holds it.
    assert tails == {"user 1": hidden.line, "user 2": later.line, "user 3": b"", "user 4": b"no event\n"}


async def sent(settings: Settings, appends: Sequence[Append]) -> None:
    tails: Tails = open_tails(settings)
    assert all(await tails.append(appends, WITHIN_S))
    tails.close()


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
        assert isinstance(found, PackedUser)
        assert store.read(user, WITHIN_S) == found
        return found.tail

    assert await tail() == b""
    assert await tails.append([one(1), one(2), one(3, "user 4")], WITHIN_S) == [True, True, True]
    assert await tail() == b"line 1\nline 2\n"
    assert await tail("user 4") == b"line 3\n"
    # A user without a row has a tail all the same.
    assert await store.read_async("newcomer", WITHIN_S) is None
    assert await tails.append([one(7, "newcomer")], WITHIN_S) == [True]
    assert await store.read_async("newcomer", WITHIN_S) == Newcomer(b"line 7\n")
    assert store.read("newcomer", WITHIN_S) is None
    noted = Append("user 3", "id 9", b"", b"")
    assert [await tails.append([noted], WITHIN_S) for _ in range(2)] == [[True], [False]]
    assert await tails.append([one(2), one(4), one(1)], WITHIN_S) == [False, True, False]
    assert await tail() == b"line 1\nline 2\nline 4\n"
    materialise(shop(folder / "new", num_users=5, seed=2), settings)
    assert await tail() == b"line 1\nline 2\nline 4\n"
    assert await store.read_async("newcomer", WITHIN_S) == Newcomer(b"line 7\n")
    assert await tails.append([one(5, old=await tail(), kept=b"line 4\n")], WITHIN_S) == [True]
    assert await tail() == b"line 4\nline 5\n"
    # Another gateway appended meanwhile: nothing of that is shortened away.
    assert await tails.append([one(6, old=b"line 4\n", kept=b"")], WITHIN_S) == [True]
    assert await tail() == b"line 4\nline 5\nline 6\n"
    tails.close()
    store.close()
