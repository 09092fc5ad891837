"""Features named by values of the data: unique, valid everywhere, and with the real value in the schema."""

import json
from pathlib import Path
from random import Random

import duckdb
import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.errors import ContractError, CorruptFileError
from recommender.features import build
from recommender.features.value_names import LONGEST_PART, MOST, ValueNames, parts
from recommender.matching.affinity import type_code
from recommender.matching.catalogue import Catalogue
from recommender.matching.reasons import FeatureGroups
from recommender.storage.ids import IdsFile
from recommender.storage.manifest import read_manifest
from recommender.storage.names import NamesFile

FORMS = ["behaviour__{}_targeted", "behaviour__{}_redeemed", "behaviour__{}_rate"]
NASTY = [
    *(
        "家电",
        "食品",
        "生鲜",
        "أغذية",
        "🍎",
        "🍏",
        "Café",
        "Cafe\u0301",
        "Food",
        "food",
        "FOOD",
        "none",
        "None",
        "null",
        "NULL",
    ),
    *(
        "",
        " ",
        "__",
        "a__b",
        "a.b",
        "a b",
        "a-b",
        '"',
        "'",
        "{}",
        "{0}",
        "a" * 500,
        "a" * 499 + "b",
        "家" * 500,
        "\u212a",
        "k",
    ),
    *(
        "x; DROP TABLE users",
        "campaigns",
        "open_campaigns",
        "recency",
        "2024",
        "ﬀ",
        "ﬁ",
        "İ",
        "i",
        "ß",
        "SS",
        "deadbeef",
        "\ud800",
    ),
]


def columns_of(values: list[str], taken: tuple[str, ...] = ()) -> list[str]:
    return [name for names in ValueNames().name("type", values, FORMS, taken=taken).values() for name in names]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(NASTY), unique=True, max_size=30))
def test_any_texts_get_different_names_of_ascii_letters_digits_and_single_underscores(values: list[str]) -> None:
    names = columns_of(values)
    assert len(set(names)) == len(FORMS) * len(values)
    for name in names:
        kind, _, rest = name.partition("__")
        assert kind == "behaviour"
        assert rest.replace("_", "a").isalnum()
        assert rest.isascii()
        assert rest == rest.lower()
        assert "__" not in rest
        assert len(name) < 128  # half of the shortest limit of a database that could hold it


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(), unique=True, max_size=12), st.randoms())
def test_a_name_depends_on_the_set_of_values_and_not_on_their_order(values: list[str], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert parts(values, FORMS) == parts(shuffled, FORMS)


def test_short_ascii_values_are_named_by_themselves() -> None:
    assert list(parts(["GROCERY", "DRUG GM", "MEAT-PCKGD", "Type A"], FORMS).values()) == [
        *("grocery", "drug_gm", "meat_pckgd", "type_a")
    ]


def test_values_that_differ_in_case_or_punctuation_alone_keep_readable_names() -> None:
    named = parts(["Food", "food", "a.b", "a b", "Toys"], FORMS)
    assert named["Toys"] == "toys"
    assert named["Food"].startswith("food_")
    assert named["food"].startswith("food_")
    assert len(set(named.values())) == 5


def test_two_values_with_the_same_short_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recommender.features.value_names.HASH_DIGITS", 0)  # so that all short hashes are equal
    assert len(set(parts(["家电", "食品"], FORMS).values())) == 2


def test_a_long_value_is_cut_and_still_unique() -> None:
    one, other = parts(["a" * 500, "a" * 499 + "b"], FORMS).values()
    assert one != other
    assert one[:LONGEST_PART] == other[:LONGEST_PART] == "a" * LONGEST_PART


def test_no_value_takes_the_name_of_another_feature() -> None:
    names = columns_of(["campaigns", "open_campaigns"], taken=("behaviour__campaigns_targeted",))
    assert "behaviour__campaigns_targeted" not in names
    assert "behaviour__open_campaigns_targeted" in names


def test_a_form_used_for_two_columns_is_refused() -> None:
    named = ValueNames()
    named.name("department", ["a"], ["x__{}"])
    with pytest.raises(ValueError, match="x__a"):
        named.name("brand", ["a"], ["x__{}"])


def test_a_value_that_was_named_keeps_its_name_and_its_place_and_others_come_after_it(tmp_path: Path) -> None:
    file = NamesFile(tmp_path / "names.json")

    def parts_of(*values: str) -> list[tuple[str, str]]:
        found = ValueNames(kept=file).name("department", values, ["x__{}"])
        return [(value, name) for value, (name,) in found.items()]

    first = parts_of("Food", "Toys")
    assert first == [("Food", "x__food"), ("Toys", "x__toys")]
    assert parts_of("Toys") == first
    more = parts_of("food", "Toys")
    assert more[:2] == first
    assert more[2][0] == "food"
    assert more[2][1].startswith("x__food_")
    assert parts_of("Toys", "Food", "food") == more
    assert parts_of() == more


def test_no_more_values_are_named_than_are_kept_and_a_missing_one_keeps_its_name(tmp_path: Path) -> None:
    named = ValueNames(kept=NamesFile(tmp_path / "names.json"))
    first = [f"value {place}" for place in range(12)]
    named.name("region", first, ["base__region_{}"])
    assert named.of_missing("base__region_{}", occurs=False) is None
    later = ValueNames(kept=named.kept)
    found = later.name("region", ["unknown", *(f"other {place}" for place in range(20))], ["base__region_{}"])
    assert list(found)[:13] == [*first, "unknown"]
    assert len(found) == MOST
    assert later.of_missing("base__region_{}", occurs=True) == "base__region_missing"
    assert ValueNames(kept=named.kept).of_missing("base__region_{}", occurs=False) == "base__region_missing"


def test_a_damaged_file_of_names_is_named_and_stops_a_build(tmp_path: Path) -> None:
    file = NamesFile(tmp_path / "names.json")
    ValueNames(kept=file).name("region", ["north"], ["x__{}"])
    file.path.write_bytes(file.path.read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match=r"names\.json"):
        ValueNames(kept=file).name("region", ["north"], ["x__{}"])


def test_every_name_is_a_column_of_duckdb_ibis_and_feast() -> None:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32

    names = columns_of(NASTY)
    table = pa.table({name: pa.array([float(place)]) for place, name in enumerate(names)})
    with duckdb.connect() as connection:
        connection.register("t", table)
        for place, name in enumerate(names):  # unquoted
            assert connection.sql(f"SELECT {name} FROM t").fetchone() == (float(place),)
    assert ibis.memtable(table).select(*names).to_pyarrow().column_names == names
    view = FeatureView(
        name="view",
        entities=[Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)],
        schema=[Field(name=name, dtype=Float32) for name in names],
        source=FileSource(path="t.parquet", timestamp_field="event_timestamp"),
    )
    view.ensure_valid()
    assert [field.name for field in view.features] == names


DEPARTMENTS = ["家电", "食品", "أغذية", "🍎", "breadth", "none"]
"""Of the six categories that the small shop has."""
TYPES = {"Type A": "满减", "Type B": "campaigns", "Type C": "open_campaigns"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop.generate(tmp_path_factory.mktemp("world"))
    frames = dict(shop.frames)
    categories = sorted(set(frames["items"]["category"].to_pylist()))
    departments = dict(zip(categories, DEPARTMENTS, strict=True))
    frames["items"] = with_column(
        frames["items"], "department", [departments[c] for c in column(frames, "items", "category")]
    )
    types = sorted(set(column(frames, "campaigns", "campaign_type")))
    renamed = dict(zip(types, TYPES.values(), strict=False))
    frames["campaigns"] = with_column(
        frames["campaigns"], "campaign_type", [renamed[t] for t in column(frames, "campaigns", "campaign_type")]
    )
    users = frames["users"].num_rows
    given_values = ["男", "女", "unknown", None]
    frames["users"] = with_column(frames["users"], "gender", [given_values[row % 4] for row in range(users)])
    return Shop(frames)


def column(frames: dict[str, pa.Table], table: str, name: str) -> list[str]:
    values: list[str] = frames[table][name].to_pylist()
    return values


def with_column(table: pa.Table, name: str, values: list[str | None] | list[str]) -> pa.Table:
    table = table.drop_columns([name]) if name in table.column_names else table
    return table.append_column(name, pa.array(values, pa.string()))


@pytest.fixture(scope="module")
def features(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    return build(shop.write(folder / "tables"), folder / "features", as_of=AS_OF)


def test_each_department_in_any_script_is_a_feature_with_its_own_share_of_spend(features: Path) -> None:
    read_manifest(features)
    schema = json.loads((features / "schema.json").read_text(encoding="utf-8"))
    shares = {
        stands["value"]: name
        for name, stands in schema["values"].items()
        if stands["column"] == "department" and name.startswith("interest__")
    }
    assert set(shares) == set(DEPARTMENTS)
    users = pq.read_table(features / "users.parquet", columns=list(shares.values()))
    spent = [name for name in users.column_names if (pc.max(users[name]).as_py() or 0) > 0]
    assert len(spent) == len(DEPARTMENTS)
    totals = pc.add(users[spent[0]], users[spent[1]])
    for name in spent[2:]:
        totals = pc.add(totals, users[name])
    assert pc.max(pc.abs(pc.subtract(totals.drop_null().filter(pc.is_finite(totals.drop_null())), 1.0))).as_py() < 1e-5


def test_other_frequencies_and_values_that_are_gone_leave_all_columns_where_they_were(
    shop: Shop, features: Path, tmp_path: Path
) -> None:
    ids = IdsFile(tmp_path / "ids.json")
    build(shop.write(tmp_path / "tables"), tmp_path / "first", as_of=AS_OF, threads=1, kept_ids=ids)
    before = json.loads((tmp_path / "first" / "schema.json").read_text(encoding="utf-8"))
    assert (tmp_path / "first" / "schema.json").read_bytes() == (features / "schema.json").read_bytes()
    frames = dict(shop.frames)
    women = ["女" if place % 5 else "男" for place in range(frames["users"].num_rows)]
    frames["users"] = with_column(frames["users"], "gender", women)
    department = [value if value != "食品" else "new" for value in column(frames, "items", "department")]
    frames["items"] = with_column(frames["items"], "department", department)
    frames["campaigns"] = with_column(frames["campaigns"], "campaign_type", ["满减"] * frames["campaigns"].num_rows)
    tables = Shop(frames).write(tmp_path / "later")
    build(tables, tmp_path / "second", as_of=AS_OF, threads=1, kept_ids=ids)
    after = json.loads((tmp_path / "second" / "schema.json").read_text(encoding="utf-8"))
    new = {name for name, stands in after["values"].items() if stands["value"] == "new"}
    assert len(new) == 2  # of users and of campaigns
    for part in ("portrait", "campaign", "cross", "segments"):
        assert [name for name in after[part] if name not in new] == before[part]
    users = pq.read_table(tmp_path / "second" / "users.parquet")
    gone = {name for name, stands in after["values"].items() if stands["value"] in ("食品", "unknown")}
    read = [name for name in users.column_names if name in gone or name == "base__gender_unknown"]
    assert len(read) == 3
    assert {value for name in read for value in users[name].to_pylist() if value == value} == {0.0}
    # Built without a home, the same tables have other columns.
    build(tables, tmp_path / "alone", as_of=AS_OF, threads=1)
    alone = json.loads((tmp_path / "alone" / "schema.json").read_text(encoding="utf-8"))
    assert set(before["portrait"]) - set(alone["portrait"]) >= set(read)


def test_features_that_values_could_have_overwritten_are_still_there(features: Path) -> None:
    schema = json.loads((features / "schema.json").read_text(encoding="utf-8"))
    names = pq.read_schema(features / "users.parquet").names
    assert len(set(names)) == len(names)
    for name in ("interest__department_breadth", "behaviour__campaigns_targeted", "behaviour__campaigns_redeemed"):
        assert name in names
        assert name not in schema["values"]
    assert {"base__gender_unknown"} < {name for name in names if name.startswith("base__gender_")}
    assert {"男", "女", "unknown"} == {s["value"] for s in schema["values"].values() if s["column"] == "gender"}
    assert "campaign__department_breadth" in schema["campaign"]


def test_the_catalogue_holds_the_real_values(features: Path) -> None:
    catalogue = Catalogue.load(features / "catalogue")
    assert set(catalogue.campaign_types) <= set(TYPES.values())
    assert set(DEPARTMENTS) < set(catalogue.axis_values[3])


def test_a_rate_by_type_is_unknown_where_no_campaign_was_seen_whatever_the_type_is_called(features: Path) -> None:
    schema = json.loads((features / "schema.json").read_text(encoding="utf-8"))
    users = pq.read_table(features / "users.parquet")
    rates = [name for name in schema["values"] if name.startswith("behaviour__") and name.endswith("_rate")]
    counts = [name for name in schema["values"] if name.startswith("behaviour__") and name.endswith("_targeted")]
    untargeted = pc.equal(users["behaviour__campaigns_targeted"], 0)
    assert pc.any(untargeted).as_py()
    for name in rates:
        assert pc.all(pc.is_nan(users[name].filter(untargeted))).as_py()
    for name in counts:
        assert pc.all(pc.equal(users[name].filter(untargeted), 0)).as_py()


def test_two_types_with_one_code_are_refused_by_name(shop: Shop, tmp_path: Path) -> None:
    types = ["plumless", "buckeroo"]  # the best known pair of words with the same CRC-32
    assert type_code(types[0]) == type_code(types[1])
    campaigns = shop.frames["campaigns"]
    given = with_column(campaigns, "campaign_type", [types[row % 2] for row in range(campaigns.num_rows)])
    tables = Shop({**shop.frames, "campaigns": given}).write(tmp_path / "tables")
    with pytest.raises(ContractError, match=r"campaign_type.*buckeroo.*plumless"):
        build(tables, tmp_path / "features", as_of=AS_OF)


def test_a_value_called_coupons_makes_no_reason_about_coupons() -> None:
    names = (
        "interest__department_coupons",
        "campaign__type_redeem",
        "behaviour__coupon_mailer_targeted",
        "campaign__coupon_share",
    )
    assert FeatureGroups.of(names).members["coupons"].tolist() == [3]
    assert FeatureGroups.of(names).members["campaigns"].tolist() == []
