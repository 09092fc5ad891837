"""Who was forgotten stays out: of the list by name, of segments, of tables and of what is copied from them."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_shop import EVENTS, SmallShop, ask

from recommender.datasets.tables import open_tables
from recommender.decision_tables.segments import problem_of
from recommender.decisions.erasing import erase_in, erasing
from recommender.decisions.shipping import sealed, ship
from recommender.errors import CorruptFileError
from recommender.event_tables.append import ingest_with_events
from recommender.event_tables.forgotten_rows import copy_without, count_rows, without_forgotten
from recommender.settings import Settings, SourceSettings
from recommender.storage.forgotten import Forgotten, ForgottenFollower, allow, forget
from recommender.storage.home import Home

NOW = datetime(2026, 1, 5, tzinfo=UTC)
ANNA, BERT = "QWERTZUIOPASDFGHJKLY", "YXCVBNMASDFGHJKLQWER"


def test_the_list_holds_no_id_and_another_home_has_other_hashes(tmp_path: Path) -> None:
    one, other = Home(tmp_path / "one"), Home(tmp_path / "other")
    for home in (one, other):
        assert ANNA in forget(home, [ANNA], NOW)
    written = one.forgotten.read_text()
    assert ANNA not in written
    assert not set(Forgotten.of(one).since) & set(Forgotten.of(other).since)
    assert BERT not in Forgotten.of(one)


def test_who_is_forgotten_twice_keeps_the_first_moment_and_so_the_identity(tmp_path: Path) -> None:
    home = Home(tmp_path)
    identity = Forgotten.of(home).identity("source")
    assert identity == "source"
    first = forget(home, [ANNA], NOW)
    again = forget(home, [ANNA], NOW + timedelta(days=1))
    assert again == first
    assert first.identity("source") != "source"
    assert forget(home, [BERT], NOW).identity("source") != first.identity("source")


def test_who_comes_back_is_off_the_list(tmp_path: Path) -> None:
    home = Home(tmp_path)
    forget(home, [ANNA, BERT], NOW)
    follower = ForgottenFollower(home)
    assert ANNA in (follower.current or ())
    assert allow(home, [ANNA, "nobody"]) == [ANNA]
    assert ANNA not in (follower.refresh() or (ANNA,))
    assert BERT in (follower.refresh() or ())


def test_a_damaged_list_is_refused_and_a_gateway_keeps_the_last_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    forget(home, [ANNA], NOW)
    follower = ForgottenFollower(home)
    home.forgotten.write_text('{"format": 1, "users": []}')
    with pytest.raises(CorruptFileError, match=r"forgotten\.json"):
        Forgotten.of(home)
    assert ANNA in (follower.refresh() or ())
    assert "forgotten.json" in str(follower.problem)


@pytest.mark.parametrize("why", ["cut off", "a folder", "no right to look"])
def test_a_list_that_was_never_read_lets_nobody_in_until_it_can_be(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    forget(home, [ANNA], NOW)
    whole = home.forgotten.read_text()
    with monkeypatch.context() as broken:
        if why == "cut off":
            home.forgotten.write_text(whole[:50])
        elif why == "a folder":
            home.forgotten.unlink()
            home.forgotten.mkdir()
        else:  # tests run as root, whom a mode keeps from nothing

            def refused(*_: object, **__: object) -> None:
                raise PermissionError(13, "Permission denied")

            broken.setattr(Path, "stat", refused)
        follower = ForgottenFollower(home)
        assert follower.current is None
        assert follower.refresh() is None
        assert str(home.forgotten) in str(follower.problem)
        with pytest.raises(CorruptFileError):
            erasing(follower)(b"")
    if why == "a folder":
        home.forgotten.rmdir()
    if why != "no right to look":
        home.forgotten.write_text(whole)
    known = follower.refresh()
    assert known is not None
    assert ANNA in known
    assert BERT not in known
    assert follower.problem is None
    assert [record.levelname for record in caplog.records if "nobody is let in" in record.getMessage()] == ["ERROR"]


def lines(*users: str) -> bytes:
    return b"".join(
        orjson.dumps({"event_id": f"id of {user}", "user_id": user, "kind": "view"}) + b"\n" for user in users
    )


def test_an_erased_line_keeps_its_length_and_the_segment_its_seal(tmp_path: Path) -> None:
    path = tmp_path / "20260105-0123456789ab-0.jsonl"
    whole = lines(ANNA, BERT, ANNA)
    path.write_bytes(sealed(whole))
    found = erase_in(path, {ANNA})
    assert (found.lines, found.event_ids) == (2, (f"id of {ANNA}",) * 2)
    after = path.read_bytes()
    assert ANNA.encode() not in after
    assert after.find(BERT.encode()) == whole.find(BERT.encode())
    assert problem_of(path) is None
    assert orjson.loads(after.splitlines()[0]) == {"event": "removed"}
    assert erase_in(path, {ANNA}).lines == 0


def test_a_damaged_segment_stays_one_but_loses_the_user(tmp_path: Path) -> None:
    path = tmp_path / "20260105-0123456789ab-0.jsonl"
    content = sealed(lines(ANNA, BERT)).replace(b"view", b"veiw", 1)
    path.write_bytes(content + b'{"event_id": "x", "user_id": "' + ANNA.encode() + b'", "ki')
    assert erase_in(path, {ANNA}).lines == 2
    assert ANNA.encode() not in path.read_bytes()
    assert b'"sha256"' in path.read_bytes()


def test_a_segment_is_shipped_without_who_was_forgotten_meanwhile(tmp_path: Path) -> None:
    home, own = Home(tmp_path / "home"), tmp_path / "own"
    own.mkdir()
    segment = own / "20260105-0123456789ab-0.jsonl"
    segment.write_bytes(lines(ANNA, BERT))
    os.utime(segment, (1, 1))
    erase = erasing(ForgottenFollower(home))
    forget(home, [ANNA], NOW)
    ship(own, home.events, lambda _: None, erase)
    shipped = (home.events / segment.name).read_bytes()
    assert ANNA.encode() not in shipped
    assert BERT.encode() in shipped
    assert problem_of(home.events / segment.name) is None
    assert not segment.exists()


def test_ingest_leaves_out_who_was_forgotten_and_counts_the_rows(tmp_path: Path) -> None:
    shop, bad = SmallShop(tmp_path), "17,no time at all,tin,1,9.5\n18,no time at all,tin,1,9.5\n"
    good = "".join(
        f"18,2024-03-03 {hour}:00:00,tin,{number},9.5\n" for hour in range(10, 20) for number in range(1, 50)
    )
    shop.write("events.csv", EVENTS + bad + good)
    settings = Settings(home=tmp_path / "home", source=SourceSettings(dataset="files", mapping=str(shop.mapping())))
    forget(Home.of(settings), ["17", "of nobody"], NOW)
    made = ingest_with_events(settings, tmp_path / "tables", ingested_at=NOW)
    assert ask(made, "SELECT DISTINCT user_id FROM events") == [("18",)]
    assert ask(made, "SELECT user_id FROM users") == [("18",)]
    assert ask(made, "SELECT user_id FROM targets") == [("18",)]
    counted = made.manifest["forgotten"]
    assert counted["users"] == 1
    assert counted["rows"]["events"] == 2
    assert counted["rows"]["quarantine"] == 1
    aside = pq.read_table(made.folder / "quarantine" / "events.parquet")
    assert aside["user_id"].to_pylist() == ["18"]
    assert open_tables(made.folder).manifest["quarantined"]["events"] == 1


def test_nothing_is_written_again_where_the_source_has_none_of_them(tmp_path: Path) -> None:
    made = SmallShop(tmp_path).read()
    home, before = Home(tmp_path / "home"), made.folder.stat().st_ino
    forget(home, ["of nobody"], NOW)
    assert without_forgotten(made, home).folder.stat().st_ino == before
    assert "forgotten" not in json.loads((made.folder / "manifest.json").read_text())


def test_rows_that_were_set_aside_are_found_by_numbers_too_but_not_by_their_place(tmp_path: Path) -> None:
    aside = tmp_path / "events.parquet"
    rows = {"customer": [17, 18, None], "_row": [3, 17, 5], "_reason": ["no time"] * 3}
    pq.write_table(pa.table(rows), aside)
    assert count_rows(aside, {"17"}) == 1
    copy_without(aside, tmp_path / "copy", {"17"})
    assert pq.read_table(tmp_path / "copy")["customer"].to_pylist() == [18, None]


def test_a_copy_has_the_other_rows_and_a_file_without_users_all_of_them(tmp_path: Path) -> None:
    users, items = tmp_path / "users.parquet", tmp_path / "items.parquet"
    pq.write_table(pa.table({"user_id": [ANNA, BERT, None], "spend": [1.0, 2.0, 3.0]}), users, compression="zstd")
    pq.write_table(pa.table({"item_id": [ANNA, BERT]}), items)
    assert count_rows(users, {ANNA}) == 1
    copy_without(users, tmp_path / "copy", {ANNA})
    assert pq.read_table(tmp_path / "copy")["spend"].to_pylist() == [2.0, 3.0]
    assert ANNA.encode() not in (tmp_path / "copy").read_bytes()
    assert count_rows(items, {ANNA}) == 0
    copy_without(items, tmp_path / "copy", {ANNA})
    assert pq.read_table(tmp_path / "copy").num_rows == 2
