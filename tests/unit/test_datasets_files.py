"""A mapping turns a user's own files into canonical tables, and errors name file, column and row."""

import gzip
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from recommender.datasets import draft_mapping, ingest
from recommender.datasets.contract import check, open_views
from recommender.datasets.files import source_files
from recommender.datasets.identity import source_identity
from recommender.datasets.tables import Tables
from recommender.errors import ContractError, RecommenderError, SettingsError, SourceError
from recommender.settings import SourceSettings

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-data"

FILES = {
    "orders.csv": "customer,bought,sku,paid\n"
    "007,2024-03-31 01:30,a,1.5\n8,2024-03-31 12:00,b,2\n8,2024-04-02 09:00,b,3\n",
    "offers.csv": "offer,from,to\nspring,2024-04-01,2024-04-30\n",
    "offer_items.csv": "offer,sku\nspring,b\n",
    "mailings.csv": "offer,customer\nspring,007\nspring,8\n",
}
MAPPING = """
[source]
time_zone = "Europe/Berlin"
[tables.events]
file = "orders.csv"
columns = { user_id = "customer", event_time = "bought", item_id = "sku", amount = "paid" }
constants = { kind = "purchase" }
[tables.campaigns]
file = "offers.csv"
columns = { campaign_id = "offer", starts_at = "from", ends_at = "to" }
constants = { kind = "promotion" }
[tables.campaign_items]
file = "offer_items.csv"
columns = { campaign_id = "offer", item_id = "sku" }
[tables.targets]
file = "mailings.csv"
columns = { campaign_id = "offer", user_id = "customer" }
"""
Read = Callable[..., Tables]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads the small shop, with some of its files or the mapping's text replaced."""

    def read(
        files: dict[str, str | bytes] | None = None, *, old: str = "", new: str = "", mapping: str = MAPPING
    ) -> Tables:
        for name, content in {**FILES, **(files or {})}.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        assert old in mapping
        (tmp_path / "mapping.toml").write_text(mapping.replace(old, new) if old else mapping, encoding="utf-8")
        return ingest(SourceSettings(dataset="files", mapping=str(tmp_path / "mapping.toml")), tmp_path / "tables")

    return read


def rows(tables: Tables, query: str) -> list[tuple[object, ...]]:
    with open_views(tables) as connection:
        return connection.execute(query).fetchall()


def test_the_least_set_of_files_works_and_says_what_was_derived(read: Read) -> None:
    tables = read()
    check(tables)
    assert rows(tables, "SELECT user_id FROM users ORDER BY 1") == [("007",), ("8",)]
    assert rows(tables, "SELECT item_id FROM items ORDER BY 1") == [("a",), ("b",)]
    assert rows(tables, "SELECT user_id, campaign_id FROM participations") == [("8", "spring")]
    said = " ".join(tables.manifest["decisions"])
    for words in ("users: no file", "items: no file", "participations: no file", "targets: no targeted_at"):
        assert words in said


def test_times_are_local_to_the_shops_over_the_change_of_the_clocks(read: Read) -> None:
    tables = read()
    times = rows(tables, "SELECT strftime(event_time, '%d %H:%M') FROM events ORDER BY event_time")
    assert times == [("31 00:30",), ("31 10:00",), ("02 07:00",)]
    window = rows(tables, "SELECT strftime(starts_at, '%m-%d %H'), strftime(ends_at, '%m-%d %H') FROM campaigns")
    assert window == [("03-31 22", "04-30 22")]


def test_days_without_an_hour_are_known_at_their_end(read: Read) -> None:
    tables = read({"orders.csv": "customer,bought,sku,paid\n8,2024-04-02,b,3\n"})
    assert rows(tables, "SELECT strftime(event_time, '%d %H:%M:%S.%f') FROM events") == [("02 21:59:59.999999",)]


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("02.04.2024 09:00", "%d.%m.%Y %H:%M"),
        ("1712041200", "unix_s"),
        ("1712041200000", "unix_ms"),
        ("2024-04-02T09:00:00+02:00", ""),
    ],
)
def test_times_in_other_formats_are_the_same_moment(read: Read, written: str, known: str) -> None:
    formats = f'formats = {{ event_time = "{known}" }}\n' if known else ""
    tables = read(
        {"orders.csv": f"customer,bought,sku,paid\n8,{written},b,3\n"},
        old='constants = { kind = "purchase" }\n',
        new=f'constants = {{ kind = "purchase" }}\n{formats}',
    )
    assert rows(tables, "SELECT epoch(event_time) FROM events") == [(1712041200.0,)]


def test_own_words_separators_and_several_files_are_understood(read: Read) -> None:
    second = """[[tables.events]]
file = "log.csv"
delimiter = ";"
decimal = ","
columns = { user_id = "who", event_time = "when", item_id = "what", kind = "did", amount = "paid" }
values = { kind = { bought = "purchase", looked = "view" } }
"""
    tables = read(
        {"log.csv": "who;when;what;did;paid\n8;2024-04-01 10:00;a;looked;\n9;2024-04-01 11:00;a;bought;1,25\n"},
        mapping=MAPPING.replace("[tables.events]", "[[tables.events]]").replace(
            "[tables.campaigns]", second + "[tables.campaigns]"
        ),
    )
    assert tables.manifest["rows"]["events"] == 5
    assert rows(
        tables, "SELECT user_id, kind, amount FROM events WHERE item_id = 'a' AND event_time >= '2024-04-01' ORDER BY 1"
    ) == [
        ("8", "view", None),
        ("9", "purchase", 1.25),
    ]


def test_marks_and_line_ends_of_other_systems_change_nothing(read: Read) -> None:
    plain = read().data_hash
    assert (
        read({name: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() for name, text in FILES.items()}).data_hash
        == plain
    )
    assert read({name: text.replace(",", "\t") for name, text in FILES.items()}).data_hash == plain


def test_parquet_files_keep_their_types(read: Read, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"""COPY (
            SELECT 8 AS customer, TIMESTAMP '2024-04-02 09:00' AS bought, 'b' AS sku, 3.0 AS paid)
            TO '{tmp_path / "orders.parquet"}'""")
    tables = read(old='"orders.csv"', new='"orders.parquet"')
    assert rows(tables, "SELECT user_id, strftime(event_time, '%H:%M'), amount FROM events") == [("8", "07:00", 3.0)]


def test_who_participated_is_enough_where_nobody_kept_the_targets(read: Read) -> None:
    mapping = MAPPING.replace("[tables.targets]", "[tables.participations]").replace(
        'user_id = "customer" }\n', 'user_id = "customer", participated_at = "when" }\n'
    )
    tables = read({"mailings.csv": "offer,customer,when\nspring,8,2024-04-03\n"}, mapping=mapping)
    assert rows(tables, "SELECT user_id FROM targets ORDER BY 1") == [("007",), ("8",)]
    assert "targets: no file" in " ".join(tables.manifest["decisions"])


PARTICIPATIONS = """[tables.participations]
file = "redeemed.csv"
columns = { campaign_id = "offer", user_id = "customer", participated_at = "when" }
"""


def test_nobody_may_have_participated_yet(read: Read) -> None:
    tables = read({"redeemed.csv": "offer,customer,when\n"}, mapping=MAPPING + PARTICIPATIONS)
    check(tables)
    assert tables.manifest["rows"]["participations"] == 0


def test_two_redemptions_of_a_day_are_one_participation_and_the_manifest_says_so(read: Read) -> None:
    redeemed = "offer,customer,when\nspring,8,2024-04-03\nspring,8,2024-04-03\nspring,8,2024-04-04\n"
    tables = read({"redeemed.csv": redeemed}, mapping=MAPPING + PARTICIPATIONS)
    check(tables)
    assert tables.manifest["rows"]["participations"] == 2
    assert "participations: 1 rows that repeat another exactly are dropped." in tables.manifest["decisions"]


def test_files_without_a_mapping_are_refused_by_key(tmp_path: Path) -> None:
    source = SourceSettings(dataset="files")
    with pytest.raises(SettingsError, match=r"source\.mapping"):
        ingest(source, tmp_path / "tables")
    with pytest.raises(SettingsError, match=r"source\.mapping"):
        source_identity(source)


def test_a_few_unreadable_rows_are_set_aside_with_number_and_reason(read: Read) -> None:
    lines = "".join(f"8,2024-04-01 10:{n % 60:02d},b,{n}\n" for n in range(300))
    tables = read({"orders.csv": f"customer,bought,sku,paid\n{lines}8,yesterday,b,3\n"})
    aside = pq.read_table(tables.folder / "quarantine" / "events.parquet").to_pylist()
    assert [(row["_row"], row["_file"]) for row in aside] == [(302, "orders.csv")]
    assert "event_time: cannot read yesterday" in aside[0]["_reason"]
    assert tables.manifest["rows"]["events"] == 300


@pytest.mark.parametrize(
    ("file", "content", "facts"),
    [
        ("orders.csv", "customer,bougt,sku,paid\n8,2024-04-02,b,3\n", ("events.event_time", "'bought'", "'bougt'")),
        ("orders.csv", "customer,bought,sku,paid\n8,2024-04-02,b,3\n8,2024-04-02,b,dear\n",
         ("events.amount", "dear", "double", "line 3 of orders.csv")),
        ("orders.csv", "customer,bought,sku,paid\n8,2.4.2024,b,3\n",
         ("events.event_time", "2.4.2024", "2 of orders.csv")),
        ("orders.csv", "customer,bought,sku,paid\n", ("events",)),
        ("orders.csv", "customer,bought,,paid\n8,2024-04-02,b,3\n", ("column 3",)),
        ("orders.csv", "customer,bought,sku,SKU\n8,2024-04-02,b,3\n", ("'SKU'",)),
        ("orders.csv", b"customer,bought,sku,paid\n8,2024-04-02,\xff\xfe,3\n", ()),
        ("orders.csv", "customer,bought,sku,paid\n8,2024-04-02,b,3\n8,2024-04\n", ()),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_by_name_column_and_row(
    read: Read, file: str, content: str, facts: tuple[str, ...]
) -> None:
    with pytest.raises(RecommenderError, match=re.escape(file)) as caught:
        read({file: content})
    for fact in facts:
        assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"orders.csv"', '"sales.csv"', SourceError, r"sales\.csv"),
        ("Europe/Berlin", "Berlin time", SourceError, r"source\.time_zone: .*'Berlin time'"),
        ("[tables.campaign_items]", "[tables.campaign_item]",
         SourceError, r"tables\.campaign_item: .*'campaign_items'"),
        ("user_id =", "userid =", SourceError, r"tables\.events\.columns\.userid: .*'user_id'"),
        ('constants = { kind = "purchase" }', "", ContractError, r"events\.kind: "),
        (MAPPING[MAPPING.index("[tables.targets]") :], "", ContractError, r"targets: .*participations"),
        ("[source]", "[source", SourceError, r"mapping\.toml"),
        ('file = "orders.csv"', 'file = "orders.csv"\ndelimiter = "::::::"',
         SourceError, r"tables\.events\.0\.delimiter: .*'::::::'"),
        ("[source]", "[source]\nzone = 1", SourceError, r"source\.zone: "),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_by_key(
    read: Read, old: str, new: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(old=old, new=new)


def test_a_file_name_may_hold_a_quote(read: Read) -> None:
    tables = read({"o'brien.csv": FILES["orders.csv"]}, old='"orders.csv"', new='"o\'brien.csv"')
    assert tables.manifest["rows"]["events"] == 3


def test_a_corrupt_gzip_file_is_named(read: Read) -> None:
    content = bytearray(gzip.compress(FILES["orders.csv"].encode(), mtime=0))
    content[10:] = b"\xff" * (len(content) - 10)  # after the header: no deflate block
    with pytest.raises(SourceError, match=r"orders\.csv\.gz"):
        read({"orders.csv.gz": bytes(content)}, old='"orders.csv"', new='"orders.csv.gz"')


def test_participations_are_not_derived_from_events_without_items(read: Read) -> None:
    with pytest.raises(ContractError, match=r"events\.item_id: .*participations"):
        read(old=', item_id = "sku", amount', new=", amount")


def test_a_truncated_parquet_file_is_named(read: Read, tmp_path: Path) -> None:
    (tmp_path / "orders.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"orders\.parquet"):
        read(old='"orders.csv"', new='"orders.parquet"')


def test_an_orphan_or_duplicate_reaches_validation_which_can_say_its_row(read: Read) -> None:
    tables = read({"mailings.csv": "offer,customer\nspring,8\nautumn,8\n"})
    with pytest.raises(ContractError, match=r"targets\.campaign_id: .*autumn"):
        check(tables)


def test_the_same_files_give_the_same_bytes(read: Read) -> None:
    assert read().data_hash == read().data_hash


def test_the_example_shop_keeps_the_contract(tmp_path: Path) -> None:
    tables = ingest(SourceSettings(dataset="files", mapping=str(EXAMPLE / "mapping.toml")), tmp_path / "tables")
    check(tables)
    assert sum(tables.manifest["quarantined"].values()) == 0
    assert tables.time_zone == "Europe/Berlin"
    assert len(source_files(EXAMPLE / "mapping.toml")) == 7


def test_the_draft_of_the_examples_files_needs_only_the_time_zone(tmp_path: Path) -> None:
    drafted = draft_mapping(sorted(EXAMPLE.glob("*.csv")))
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(drafted.replace('"UTC"', '"Europe/Berlin"', 1), encoding="utf-8")
    by_hand = ingest(SourceSettings(dataset="files", mapping=str(EXAMPLE / "mapping.toml")), tmp_path / "by_hand")
    assert (
        ingest(SourceSettings(dataset="files", mapping=str(mapping)), tmp_path / "drafted").data_hash
        == by_hand.data_hash
    )


def test_a_draft_says_what_it_could_not_find(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text(
        'Client No,event_type,sku,"odd ""header"""\n5,page_view,a,1\n5,added to bag,a,2\n5,dance,b,3\n'
    )
    drafted = draft_mapping([tmp_path / "clicks.csv"])
    section = tomllib.loads(drafted)["tables"]["events"][0]
    assert section["values"]["kind"] == {"page_view": "view", "added to bag": "cart", "dance": "ignore"}
    assert "dance (1 rows)" in drafted
    assert "# MISSING: event_time" in drafted
    assert "# MISSING: no file looks like campaigns" in drafted
    assert 'not used here: odd "header"' in drafted


def test_a_draft_of_nothing_or_of_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        draft_mapping([])
    with pytest.raises(SourceError, match=r"gone\.csv"):
        draft_mapping([tmp_path / "gone.csv"])
