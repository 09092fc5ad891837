"""Ids are append-only: an addition moves nothing, and what was packed yesterday is read beside today's catalogue."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.time_units import DAY_US
from recommender.errors import CorruptFileError, FeatureStoreError
from recommender.features import build
from recommender.matching import affinity, packed_history
from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue
from recommender.matching.numbering import BEFORE, Numbering
from recommender.settings import Settings, SourceSettings
from recommender.storage.ids import Ids, IdsFile

YESTERDAY = {"product": ["tin", "apple"], "category": ["fruit", "cans"]}


def numbering(ids: Ids) -> Numbering:
    return Numbering(ids.versions, tuple(len(ids.of(axis)) for axis in AXES), len(ids.of("product")))


def test_the_first_numbers_are_alphabetical_and_an_addition_moves_none_of_them() -> None:
    first = Ids().adding(YESTERDAY)
    assert first.of("product") == ("", "apple", "tin")
    later = first.adding({"product": ["banana", "aubergine", "tin"], "category": ["cans"], "brand": ["own"]})
    assert later.of("product") == ("", "apple", "tin", "aubergine", "banana")
    assert later.of("category") == ("", "cans", "fruit")
    assert later.numbers("brand") == {"own": 1}
    assert later.continues(first)
    assert not first.continues(later)
    assert later.adding({"product": ["apple"]}) is later
    assert first.versions == Ids().adding({"category": ["cans", "fruit"], "product": ["apple", "tin"]}).versions


def test_a_home_keeps_the_ids_of_each_source(tmp_path: Path) -> None:
    file = IdsFile.of(Settings(home=tmp_path))
    assert file.read().versions == ()
    kept = file.add(YESTERDAY)
    assert IdsFile.of(Settings(home=tmp_path)).read().values == kept.values
    other = Settings(home=tmp_path, source=SourceSettings(dataset="files", mapping="shop.toml"))
    assert IdsFile.of(other).read().versions == ()


def add(path: Path, name: str) -> dict[str, int]:
    """What one of several processes does: add fifty items, one at a time."""
    for number in range(50):
        ids = IdsFile(path).add({"product": [f"{name}-{number}", f"common-{number}"]})
    return ids.numbers("product")


def test_of_two_writers_at_once_the_second_adds_to_what_the_first_wrote(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        seen = list(pool.map(add, [path, path], ["a", "b"]))
    kept = IdsFile(path).read().numbers("product")
    assert len(kept) == 150
    assert len(set(kept.values())) == 150
    for numbers in seen:
        assert numbers.items() <= kept.items()


def test_a_damaged_file_of_ids_is_named_and_never_renumbered(tmp_path: Path) -> None:
    file = IdsFile(tmp_path / "ids.json")
    file.add(YESTERDAY)
    whole = file.path.read_text()
    other_format = json.dumps({**json.loads(whole), "format": 9})
    for content in (whole[:-9], whole.replace("apple", "maple"), "", "[]", other_format):
        file.path.write_text(content)
        with pytest.raises(CorruptFileError, match=str(file.path)):
            file.add({"product": ["banana"]})
        assert file.path.read_text() == content


def test_ids_made_without_a_home_are_taken_over_unless_they_are_others(tmp_path: Path) -> None:
    alone = Ids().adding(YESTERDAY)
    file = IdsFile(tmp_path / "ids.json")
    assert file.follow(alone)
    assert file.read().versions == alone.versions
    later = alone.adding({"product": ["banana"]})
    assert file.follow(later)
    assert file.follow(alone)
    assert file.read().versions == later.versions
    assert not file.follow(alone.adding({"product": ["cherry"]}))
    assert file.read().versions == later.versions


def user(*items: int) -> UserAffinity:
    values = (np.array(items, dtype=np.int32), *(np.zeros(0, dtype=np.int32),) * (len(AXES) - 1))
    return UserAffinity(
        months=1.0,
        values=values,
        counts=tuple(np.ones((len(MEASURES), len(one)), dtype=np.uint16) for one in values),
        cents=tuple(np.full(len(one), 100, dtype=np.uint32) for one in values),
        types=np.zeros(0, dtype=np.uint32),
        targeted=np.zeros(0, dtype=np.uint16),
        redeemed=np.zeros(0, dtype=np.uint16),
    )


def history(ids: Numbering, *items: int) -> bytes:
    one = np.array([1])
    return packed_history.pack_history(one, one.astype(np.float32), np.array([len(items)]), np.array(items), ids.name)


def bought(packed: bytes, ids: Numbering) -> list[int]:
    return affinity.unpack_user(packed, ids).values[0].tolist()


def lines(packed: bytes, ids: Numbering) -> list[int]:
    return packed_history.unpack_histories([packed], np.array([2 * DAY_US]), ids).items_T.tolist()


def test_a_catalogue_reads_older_values_whole_and_newer_ones_without_what_it_lacks() -> None:
    before = Ids().adding(YESTERDAY)
    after = before.adding({"product": ["banana"]}).adding({"product": ["cherry"]})
    old, new = numbering(before), numbering(after)
    assert bought(affinity.pack_user(user(1, 2), old.name), new) == [1, 2]
    assert lines(history(old, 2, 1), new) == [2, 1]
    packed = affinity.pack_user(user(1, 3, 4), new.name)
    assert bought(packed, new) == [1, 3, 4]
    assert bought(packed, old) == [1]
    assert affinity.unpack_user(packed, old).cents[0].tolist() == [100]
    assert affinity.unpack_user(packed, old).counts[0].shape == (len(MEASURES), 1)
    assert lines(history(new, 4, 1, 3), old) == [0, 1, 0]


def test_two_homes_that_began_alike_refuse_each_other_s_values_from_their_first_own_addition() -> None:
    common = Ids().adding(YESTERDAY)
    here, there = numbering(common.adding({"product": ["banana"]})), numbering(common.adding({"product": ["cherry"]}))
    value = affinity.pack_user(user(1), numbering(common).name)
    assert bought(value, here) == bought(value, there) == [1]
    for value, read in ((affinity.pack_user(user(3), there.name), bought), (history(there, 3), lines)):
        with pytest.raises(FeatureStoreError, match=rf"{there.versions[-1]}.*{here.versions[-1]}"):
            read(value, here)


def test_a_catalogue_that_is_too_far_behind_refuses_instead_of_guessing() -> None:
    states = [Ids().adding(YESTERDAY)]
    for number in range(BEFORE + 1):
        states.append(states[-1].adding({"product": [f"new-{number:02}"]}))
    newest = affinity.pack_user(user(1, 19), numbering(states[-1]).name)
    assert bought(newest, numbering(states[1])) == [1]
    with pytest.raises(FeatureStoreError, match=states[0].versions[0]):
        bought(newest, numbering(states[0]))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.generate(tmp_path_factory.mktemp("shop") / "tables")


def test_a_new_a_moved_and_a_vanished_item_leave_every_row_where_it_was(shop: Shop, tmp_path: Path) -> None:
    file = IdsFile(tmp_path / "ids.json")
    build(shop.write(tmp_path / "tables"), tmp_path / "first", as_of=AS_OF, threads=1, kept_ids=file)
    old = Catalogue.load(tmp_path / "first" / "catalogue")
    assert list(old.item_ids) == sorted(old.item_ids)
    vanished, moved = old.item_ids[5], old.item_ids[7]
    items = shop.frames["items"].filter(pc.not_equal(shop.frames["items"]["item_id"], vanished))
    category = pc.if_else(pc.equal(items["item_id"], moved), "a new category", items["category"])
    items = items.set_column(items.column_names.index("category"), "category", category)
    # It would be the first of all by name, in a department that would be so, too.
    today = replace(shop, frames={**shop.frames, "items": items}).adding(
        "items", [{"item_id": "!new", "department": "!new", "category": "!new"}]
    )
    events = today.frames["events"]
    row = {**events.filter(pc.equal(events["kind"], "purchase")).slice(0, 1).to_pylist()[0], "item_id": "!new"}
    today = today.adding("events", [row])
    build(today.write(tmp_path / "today"), tmp_path / "second", as_of=AS_OF, threads=1, kept_ids=file)
    new = Catalogue.load(tmp_path / "second" / "catalogue")
    assert new.item_ids == (*old.item_ids, "!new")
    for before, after in zip(old.axis_values, new.axis_values, strict=True):
        assert after[: len(before)] == before
    category_axis = AXES.index("category")
    assert new.axis_values[category_axis][-2:] == ("!new", "a new category")
    assert new.item_axes_VA[7, category_axis] == len(new.axis_values[category_axis]) - 1
    # The vanished one keeps its row and nothing else.
    assert new.item_axes_VA[5].tolist() == [5, *[0] * (len(AXES) - 1)]
    assert new.item_popularity_V[5] == 0
    assert 5 in old.campaign_items.tolist()
    assert 5 not in new.campaign_items.tolist()
    assert vanished not in pq.read_table(tmp_path / "second" / "items.parquet")["item_id"].to_pylist()
    # Each side reads the other's users.
    for folder, catalogue in (("first", new), ("second", old)):
        users = pq.read_table(tmp_path / folder / "users.parquet", columns=["affinity", "history"])
        packed = users["history"].to_pylist()
        histories = packed_history.unpack_histories(packed, np.zeros(len(packed), dtype=np.int64), catalogue.numbering)
        assert histories.items_T.max() < len(catalogue.item_ids)
        campaigns = catalogue.incidence(range(len(catalogue.campaign_ids)))
        for value in users["affinity"].to_pylist():
            affinity.match(affinity.unpack_user(value, catalogue.numbering), campaigns)
    theirs = pq.read_table(tmp_path / "second" / "users.parquet", filters=[("user_id", "=", row["user_id"])])
    newest = theirs.sort_by("event_timestamp").to_pylist()[-1]["affinity"]
    assert len(old.item_ids) in bought(newest, new.numbering)
    assert len(old.item_ids) not in bought(newest, old.numbering)


def test_without_kept_ids_a_build_numbers_its_own_tables(shop: Shop, tmp_path: Path) -> None:
    file = IdsFile(tmp_path / "ids.json")
    tables = shop.write(tmp_path / "tables")
    build(tables, tmp_path / "alone", as_of=AS_OF, threads=1)
    build(tables, tmp_path / "kept", as_of=AS_OF, threads=1, kept_ids=file)
    for name in ("users.parquet", "catalogue/arrays.safetensors", "catalogue/names.json", "ids.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes(), name
    assert Ids.load(tmp_path / "alone" / "ids.json").versions == file.read().versions
