"""The corpus of purchases knows of a return from its moment on, and money of any size is kept exactly."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import TIME, Tables
from recommender.features.build import build
from recommender.features.histories import corpus_arrays, histories_before
from recommender.matching import affinity
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_history import Histories

END = AS_OF + timedelta(days=30)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.generate(tmp_path_factory.mktemp("shop") / "tables")


@pytest.fixture(scope="module")
def catalogue(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("built")
    build(shop.write(folder / "tables"), folder / "features", as_of=AS_OF, threads=1)
    return Catalogue.load(folder / "features" / "catalogue")


def returned(shop: Shop, events: Sequence[str], *, at: datetime, share: float) -> Shop:
    """The shop where these purchases came back."""
    table = shop.frames["events"]
    mine = [one in events for one in table["event_id"].to_pylist()]
    table = table.append_column("returned_at", pa.array([at if one else None for one in mine], TIME))
    table = table.append_column("returned_share", pa.array([share if one else None for one in mine], pa.float64()))
    return replace(shop, frames={**shop.frames, "events": table})


def one_users_purchases(shop: Shop) -> list[dict[str, object]]:
    """The lines before `AS_OF` of the first user, who is the first of the corpus."""
    rows = [row for row in shop.frames["events"].to_pylist() if row["kind"] == "purchase" and row["event_time"] < AS_OF]
    first = min(row["user_id"] for row in rows)
    return [row for row in rows if row["user_id"] == first]


def cut(tables: Tables, catalogue: Catalogue, boundary: datetime = AS_OF) -> Histories:
    return histories_before(corpus_arrays(tables, catalogue, END), boundary)


def same(one: Histories, other: Histories) -> bool:
    names = ("basket_offsets", "line_offsets", "items_T", "age_days_B", "spend_B")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


def test_without_returns_the_corpus_has_the_bits_that_it_had(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    before = corpus_arrays(shop.write(tmp_path / "a"), catalogue, END)
    after = corpus_arrays(returned(shop, [], at=AS_OF, share=1.0).write(tmp_path / "b"), catalogue, END)
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_a_returned_purchase_is_in_the_corpus_until_it_comes_back(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    plain, line = cut(shop.write(tmp_path / "plain"), catalogue), one_users_purchases(shop)[0]
    later = returned(shop, [str(line["event_id"])], at=AS_OF + timedelta(days=2), share=1.0)
    assert same(cut(later.write(tmp_path / "later"), catalogue), plain)
    earlier = returned(shop, [str(line["event_id"])], at=AS_OF - timedelta(seconds=2), share=1.0)
    gone = cut(earlier.write(tmp_path / "earlier"), catalogue)
    assert len(gone.items_T) == len(plain.items_T) - 1
    assert float(plain.spend_B.sum() - gone.spend_B.sum()) == pytest.approx(float(str(line["amount"])), abs=0.01)
    mine = slice(0, plain.basket_offsets[1])
    others = slice(int(gone.basket_offsets[1]), None)
    np.testing.assert_array_equal(gone.spend_B[others], plain.spend_B[mine.stop :])


def test_a_part_that_came_back_takes_its_money_only(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    plain, line = cut(shop.write(tmp_path / "plain"), catalogue), one_users_purchases(shop)[0]
    part = returned(shop, [str(line["event_id"])], at=AS_OF - timedelta(days=1), share=0.25)
    kept = cut(part.write(tmp_path / "part"), catalogue)
    np.testing.assert_array_equal(kept.items_T, plain.items_T)
    lost = float(plain.spend_B.sum(dtype=np.float64) - kept.spend_B.sum(dtype=np.float64))
    assert lost == pytest.approx(0.25 * float(str(line["amount"])), abs=0.001)


def test_a_user_who_brought_everything_back_is_not_in_the_corpus(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    plain = cut(shop.write(tmp_path / "plain"), catalogue)
    lines = [str(row["event_id"]) for row in one_users_purchases(shop)]
    gone = cut(returned(shop, lines, at=AS_OF - timedelta(seconds=2), share=1.0).write(tmp_path / "gone"), catalogue)
    assert len(gone.basket_offsets) == len(plain.basket_offsets) - 1
    baskets = int(plain.basket_offsets[1])
    np.testing.assert_array_equal(gone.spend_B, plain.spend_B[baskets:])
    np.testing.assert_array_equal(gone.items_T, plain.items_T[plain.line_offsets[baskets] :])


def test_large_amounts_reach_a_users_affinity_whole(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    """25 million rupiah a line are 2.5 billion hundredths, more than 31 bits, and two of them more than 32."""
    amounts = [25_000_000.0 if kind == "purchase" else None for kind in shop.frames["events"]["kind"].to_pylist()]
    events = shop.frames["events"]
    events = events.set_column(events.column_names.index("amount"), "amount", pa.array(amounts, pa.float64()))
    rich = replace(shop, frames={**shop.frames, "events": events})
    build(rich.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF, threads=1)
    rows = pq.read_table(tmp_path / "features" / "users.parquet", columns=["user_id", "affinity", "event_timestamp"])
    numbering = Catalogue.load(tmp_path / "features" / "catalogue").numbering
    largest = 0
    for row in rows.to_pylist():
        user = affinity.unpack_user(row["affinity"], numbering)
        lines = user.counts[0][affinity.MEASURES.index("lines")].astype(np.int64)
        np.testing.assert_array_equal(user.cents[0], lines * 2_500_000_000)
        largest = max(largest, int(user.cents[0].max(initial=0)))
    assert largest > 2**32
