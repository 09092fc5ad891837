"""Tables of logged decisions: every record once, whatever was killed, and the reader sees all of them at any moment."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recommender.decision_tables import compact, forget, open_decisions, read_decisions, read_exposures, records_of
from recommender.decision_tables.days import days_of
from recommender.decision_tables.schema import ADDED, DECISIONS, LINE
from recommender.decisions.assignment import assign
from recommender.decisions.log import DecisionLog, folders_of
from recommender.decisions.names import segments_in
from recommender.decisions.writer import Limits
from recommender.errors import CorruptFileError
from recommender.matching.rerank import Rerank
from recommender.policies.exploration import Exploration
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.answer import Ranking
from serving.gateway.arrival import Arrival
from serving.gateway.decision import Answer, Assigned
from serving.gateway.trace import trace_of
from serving.request import RecommendationRequest, ScoringRequest

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
DECISION: dict[str, Any] = {
    "model_version": "logistic-1",
    "variant": "champion",
    "as_of": "2026-01-05T12:00:00+00:00",
    "feature_age_s": 1.5,
    "cold_start": False,
    "user_id": "顾客's",
    "candidates": None,
    "excluded": ["c"],
    "context": {"page": "home", "depth": 2},
    "campaigns": [{"campaign_id": "a", "score": 0.5}, {"campaign_id": "b", "score": 0.25}],
    "propensity": 0.9,
    "assigned_version": "logistic-1",
    "degraded_reasons": [],
    "exploration": {
        "kind": "epsilon",
        "rate": 0.1,
        "spread": 0.3,
        "num_candidates": 2,
        "first_propensity": 0.95,
        "list_propensity": 0.95,
    },
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def write(settings: Settings, at: datetime, *users: str, shipped: bool = True, **changes: Any) -> list[str]:
    """Decisions of these users at a moment, and their request ids."""
    own, shared = folders_of(settings)
    log = DecisionLog(own, shared=shared if shipped else None, limits=Limits(segment_s=60), clock=lambda: at)
    if shipped:
        log.start()
    with log:
        return [log.record({**DECISION, **changes, "user_id": user}) for user in users]


def events(settings: Settings, at: datetime, tell: Callable[[DecisionLog], None]) -> None:
    """Events of another process, shipped."""
    own, shared = folders_of(settings)
    log = DecisionLog(own, shared=shared, clock=lambda: at)
    log.start()
    with log:
        tell(log)


def ids(settings: Settings) -> list[str]:
    return [str(decision["request_id"]) for decision in read_decisions(settings)]


def test_every_column_holds_the_same_before_and_after_compaction(settings: Settings) -> None:
    (request_id,) = write(settings, NOON, "顾客's")
    before = list(read_decisions(settings))
    compacted = compact(settings)
    assert (compacted.segments, compacted.decisions, compacted.days) == (1, 1, ("20260105",))
    (decision,) = read_decisions(settings)
    assert before == [decision]
    assert json.loads(decision.pop("context")) == DECISION["context"]
    exploration = {name: decision.pop(name) for name in ("num_candidates", "first_propensity", "list_propensity")}
    exploration |= {name: decision.pop(f"exploration_{name}") for name in ("kind", "rate", "spread")}
    assert exploration == DECISION["exploration"]
    as_of = datetime.fromisoformat(DECISION["as_of"])
    expected = {name: value for name, value in DECISION.items() if name not in ("context", "exploration")}
    added = {"request_id": request_id, "decided_at": NOON, "as_of": as_of, "day": date(2026, 1, 5), "degraded": False}
    added |= {"rerank_kind": None, "rerank_trade_off": None, "trace_id": None, "x_request_id": None}
    added["by_assigned_version"] = DECISION["model_version"] == DECISION["assigned_version"]
    assert decision == {**expected, **added}


def test_an_answer_of_the_champion_for_a_canary_and_a_popular_list_are_not_by_the_assigned_version(
    settings: Settings,
) -> None:
    for user, answered_by in (("1", "v1"), ("2", "v2"), ("3", "popular")):
        write(settings, NOON, user, assigned_version="v2", model_version=answered_by)
    expected = {"1": False, "2": True, "3": False}
    assert {one["user_id"]: one["by_assigned_version"] for one in read_decisions(settings)} == expected
    compact(settings)
    assert {one["user_id"]: one["by_assigned_version"] for one in read_decisions(settings)} == expected


def test_the_table_has_a_column_for_every_field_that_the_gateway_records() -> None:
    asked = ScoringRequest(
        request=RecommendationRequest(user_id="1"),
        as_of_us=0,
        exploration=Exploration(kind="thompson", rate=0.1, spread=0.3, seed="0"),
        rerank=Rerank(kind="mmr", trade_off=0.1),
    )
    assigned = Assigned(
        asked=asked,
        assignment=assign("1", salt="s", canary_share=0),
        version="v",
        token="0" * 16,
        arrival=Arrival(deadline_s=1.0),
    )
    record = {**Answer(ranking=Ranking([], [])).record(assigned), **trace_of([]).recorded()}
    assert {"exploration", "rerank", "trace_id", "x_request_id"} <= set(record) <= set(LINE)


def test_tables_that_were_written_before_a_column_was_added_are_read_merged_and_shortened(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(settings, NOON, "1", "2")
    with monkeypatch.context() as before:
        for column in ADDED:
            before.delitem(DECISIONS, column)
        compact(settings)
    assert [one["trace_id"] for one in read_decisions(settings)] == [None, None]
    forget(settings, ["2"])
    write(settings, NOON, "3", trace_id="t", x_request_id="x")
    compact(settings)
    found = {one["user_id"]: (one["trace_id"], one["x_request_id"]) for one in read_decisions(settings)}
    assert found == {"1": (None, None), "3": ("t", "x")}


def test_a_segment_with_a_field_that_has_no_column_waits_for_a_version_that_has_one(settings: Settings) -> None:
    write(settings, NOON, "1", mood="good")
    (known,) = write(settings, NOON, "2")
    compacted = compact(settings)
    ((path, problem),) = compacted.refused.items()
    assert "mood" in problem
    assert path.is_file()
    assert (compacted.decisions, len(ids(settings))) == (1, 2)
    assert known in ids(settings)


def test_days_are_partitions_by_the_clock_of_each_answer_and_the_order_of_answers_holds(settings: Settings) -> None:
    now = [NOON]
    own, shared = folders_of(settings)
    log = DecisionLog(own, shared=shared, clock=lambda: now[0])
    log.start()
    with log:
        made = []
        for step in (0, 24, -48, 24, 13):
            now[0] += timedelta(hours=step)
            made += [log.record(DECISION) for _ in range(20)]
    live = ids(settings)
    compact(settings)
    assert ids(settings) == live == sorted(made, key=lambda one: one[:8])
    assert [day.date.isoformat() for day in days_of(Home.of(settings))] == [
        *("2026-01-04", "2026-01-05", "2026-01-06"),
    ]
    with open_decisions(settings, first_day=date(2026, 1, 5), last_day=date(2026, 1, 5)) as connection:
        assert connection.execute("SELECT DISTINCT day, decided_at::DATE FROM decisions").fetchall() == [
            (date(2026, 1, 5), date(2026, 1, 5))
        ]


def test_answers_that_did_not_arrive_are_left_out_also_when_that_is_known_after_compaction(settings: Settings) -> None:
    first, second, third, fourth = write(settings, NOON, *"1234")
    events(settings, NOON, lambda log: log.mark_undelivered(first))
    assert ids(settings) == [second, third, fourth]
    compact(settings)
    assert ids(settings) == [second, third, fourth]
    events(settings, NOON + timedelta(days=1), lambda log: log.mark_undelivered(third))
    assert ids(settings) == [second, fourth]
    compact(settings)
    assert ids(settings) == [second, fourth]
    with open_decisions(settings) as connection:
        assert connection.execute("SELECT count(*), count_if(delivered) FROM every_decision").fetchall() == [(4, 2)]


def test_exposures_count_once_with_their_decision_wherever_each_lies(settings: Settings) -> None:
    shown, never = write(settings, NOON, "1", "2")
    events(settings, NOON, lambda log: log.expose(shown, ["b"]))
    (one,) = expected = list(read_exposures(settings))
    assert (one["request_id"], one["campaign_ids"]) == (shown, ["b"])
    compact(settings)
    assert list(read_exposures(settings)) == expected
    midnight = NOON + timedelta(hours=13)
    events(settings, midnight, lambda log: log.expose(never))
    both = list(read_exposures(settings))
    assert [exposure["campaign_ids"] for exposure in both] == [["b"], ["a", "b"]]
    compact(settings)
    compact(settings)
    assert list(read_exposures(settings)) == both


def test_an_exposure_of_a_decision_that_never_was_is_left_out(settings: Settings) -> None:
    (request_id,) = write(settings, NOON, "1")
    elsewhere = f"20260105-aaaaaaaaaaaa-0.0.{request_id.split('.')[2]}"
    events(settings, NOON, lambda log: log.expose(elsewhere))
    assert list(read_exposures(settings)) == []
    compact(settings)
    assert list(read_exposures(settings)) == []


def test_logs_of_earlier_versions_are_read_and_compacted_and_torn_lines_counted(settings: Settings) -> None:
    home = Home.of(settings)
    home.decisions.mkdir(parents=True)
    old = [f"20260105-0123456789ab-0.{place}.0123456789abcdef" for place in ("0", "a")]
    lines = [json.dumps({"request_id": one, "at": NOON.isoformat(), **DECISION}) + "\n" for one in old]
    decisions = home.decisions / "20260105-0123456789ab-0.jsonl"
    decisions.write_text("".join(lines) + lines[0][:-30], encoding="utf-8")
    exposure = {"request_id": old[1], "at": NOON.isoformat(), "campaign_ids": ["a"]}
    exposures = home.decisions / "exposures-20260105-aaaaaaaaaaaa-0.jsonl"
    exposures.write_text(json.dumps(exposure) + "\n", encoding="utf-8")
    before = ids(settings), list(read_exposures(settings))
    assert before[0] == old
    assert [one["request_id"] for one in before[1]] == [old[1]]
    assert compact(settings).segments == 0  # written a moment ago, so an earlier version may still write it
    for path in (decisions, exposures):
        os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    compacted = compact(settings)
    assert (compacted.segments, compacted.decisions, compacted.events, compacted.torn) == (2, 2, 1, 1)
    assert (ids(settings), list(read_exposures(settings))) == before


def test_nobody_but_owner_and_group_may_read_what_is_logged(settings: Settings) -> None:
    os.umask(umask := os.umask(0))
    os.umask(0)
    try:
        write(settings, NOON, "1")
        write(settings, NOON, "2", shipped=False)
        compact(settings)
    finally:
        os.umask(umask)
    files = [path for path in settings.home.rglob("*") if path.suffix in (".jsonl", ".parquet")]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


def test_a_backlog_larger_than_a_batch_is_merged_in_several(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recommender.decision_tables.compaction.BATCH_BYTES", 1_500)
    made = [one for hour in range(5) for one in write(settings, NOON + timedelta(hours=hour), "1", "2")]
    assert compact(settings).decisions == 10
    assert sorted(ids(settings)) == sorted(made)


def test_a_copied_segment_or_one_that_is_shipped_again_adds_nothing(settings: Settings) -> None:
    made = write(settings, NOON, *"123")
    (segment,) = segments_in(Home.of(settings).decisions)
    content = segment.read_bytes()
    segment.with_name("20260105-ffffffffffff-0.jsonl").write_bytes(content)
    assert ids(settings) == made
    compact(settings)
    segment.unlink()
    segment.write_bytes(content)
    assert ids(settings) == made
    assert compact(settings).decisions == 0
    assert ids(settings) == made


def test_a_damaged_segment_is_named_and_left_as_it_is_and_the_others_are_merged(settings: Settings) -> None:
    write(settings, NOON, "1")
    (damaged,) = segments_in(Home.of(settings).decisions)
    damaged.write_bytes(damaged.read_bytes().replace(b"logistic-1", b"logistic-2", 1))
    (whole,) = write(settings, NOON, "2")
    compacted = compact(settings)
    assert (list(compacted.refused), compacted.segments) == ([damaged], 1)
    assert damaged.is_file()
    assert whole in ids(settings)


def test_a_damaged_table_is_named_and_nothing_is_merged_into_it(settings: Settings) -> None:
    write(settings, NOON, "1")
    compact(settings)
    (table,) = Home.of(settings).decision_days.rglob("decisions-*.parquet")
    table.write_bytes(table.read_bytes()[:-1] + b"X")
    write(settings, NOON, "2")
    with pytest.raises(CorruptFileError, match=table.name):
        compact(settings)


def test_merged_segments_stay_two_days_for_look_ups_by_request_id(settings: Settings) -> None:
    (request_id,) = write(settings, NOON, "1")
    compact(settings, now=NOON)
    assert compact(settings, now=NOON + timedelta(days=2)).deleted == 0
    events(settings, NOON + timedelta(days=2), lambda log: log.expose(request_id))
    assert compact(settings, now=NOON + timedelta(days=3)).deleted == 1
    assert ids(settings) == [request_id]
    assert [one["request_id"] for one in read_exposures(settings)] == [request_id]


KILLED = """
import os, signal, sys
from pathlib import Path
from recommender.decision_tables import compact
from recommender.settings import Settings

step, names = int(sys.argv[2]), {"fsync", "replace", "rename", "unlink"}

def audit(event, arguments):
    # Each opening for writing, renaming and deletion below the folder of decisions is a moment at which to be killed.
    global step
    if event in ("open", "os.rename", "os.remove") and "decisions" in str(arguments[0]):
        if event != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            step -= 1
            if step < 0:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(audit)
compact(Settings(home=Path(sys.argv[1])))
"""


def test_a_compaction_that_is_killed_at_each_step_loses_and_doubles_nothing(settings: Settings) -> None:
    made = write(settings, NOON, *"12345")
    made += write(settings, NOON + timedelta(days=1), *"67")
    compact(settings)
    made += write(settings, NOON + timedelta(days=1), *"89")
    events(settings, NOON + timedelta(days=1), lambda log: log.expose(made[0]))
    events(settings, NOON + timedelta(days=1), lambda log: log.mark_undelivered(made[1]))
    expected = (sorted(set(made) - {made[1]}), list(read_exposures(settings)))
    killed = 0
    for step in range(60):
        process = subprocess.run([sys.executable, "-c", KILLED, str(settings.home), str(step)], capture_output=True)
        assert (sorted(ids(settings)), list(read_exposures(settings))) == expected, step
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        killed += 1
    assert process.returncode == 0
    assert killed >= 8
    compact(settings)
    assert (sorted(ids(settings)), list(read_exposures(settings))) == expected


def test_a_reader_beside_a_writer_and_a_compactor_never_misses_or_doubles(settings: Settings) -> None:
    own, shared = folders_of(settings)
    log = DecisionLog(own, shared=shared, limits=Limits(segment_s=0.1))
    log.start()
    known, ended = [], threading.Event()

    def keep_writing() -> None:
        while not ended.is_set():
            known.append(log.record(DECISION))
            ended.wait(0.01)

    def keep_compacting() -> None:
        while not ended.is_set():
            compact(settings)

    threads = [threading.Thread(target=one) for one in (keep_writing, keep_compacting)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            before = set(known)
            read = ids(settings)
            assert before <= set(read)
            assert len(read) == len(set(read))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        log.close()
    compact(settings)
    assert sorted(ids(settings)) == sorted(known)


def test_a_user_s_records_are_found_and_removed_in_tables_and_segments_alike(settings: Settings) -> None:
    in_table, other = write(settings, NOON, "1", "2")
    for shown in (in_table, other):
        events(settings, NOON, lambda log, shown=shown: log.expose(shown))  # type: ignore[misc]
    compact(settings)
    (in_segment,) = write(settings, NOON + timedelta(hours=1), "1")
    (own,) = write(settings, NOON + timedelta(hours=2), "1", shipped=False)
    found = records_of(settings, "1")
    assert [one["request_id"] for one in found] == [in_table, in_segment, own]
    assert found[0]["shown"] == ["a", "b"]
    removal = NOON + timedelta(hours=3)
    assert forget(settings, ["1"], now=removal).decisions == 1
    assert records_of(settings, "1") == []
    assert ids(settings) == [other]
    assert [one["request_id"] for one in read_exposures(settings)] == [other]
    # What lay on the replica's disk arrives later, and stays out. What the user does later is new.
    with DecisionLog(folders_of(settings)[0], shared=Home.of(settings).decisions) as log:
        log.start()
    (later,) = write(settings, removal + timedelta(hours=1), "1")
    compact(settings)
    assert [one["request_id"] for one in records_of(settings, "1")] == [later]
    held = [path.read_bytes() for path in Home.of(settings).decisions.rglob("*.jsonl")]
    assert not any(in_table.encode() in content for content in held)
    parquet = str(Home.of(settings).decision_days / "*" / "decisions-*.parquet")
    assert duckdb.sql(f"SELECT user_id FROM '{parquet}' WHERE user_id = '1'").fetchall() == [("1",)]


def test_no_file_that_an_earlier_compaction_replaced_holds_a_removed_user(settings: Settings) -> None:
    for user in ("1", "2", "3"):
        write(settings, NOON, user)
        compact(settings, now=NOON)
    tables = Home.of(settings).decision_days / "2026-01-05"
    assert len([*tables.glob("decisions-*.parquet")]) == 3
    assert forget(settings, ["1"], now=NOON + timedelta(hours=1)).decisions == 1
    assert duckdb.sql(f"SELECT user_id FROM '{tables}/decisions-*.parquet' ORDER BY 1").fetchall() == [("2",), ("3",)]


def test_a_removal_names_segments_that_it_cannot_read(settings: Settings) -> None:
    write(settings, NOON, "1")
    (damaged,) = segments_in(Home.of(settings).decisions)
    damaged.write_bytes(damaged.read_bytes().replace(b"logistic-1", b"logistic-2", 1))
    assert list(forget(settings, ["1"]).refused) == [damaged]


def test_a_replaced_file_stays_an_hour_for_its_readers_and_goes_also_if_its_day_changes_no_more(
    settings: Settings,
) -> None:
    write(settings, NOON, "1")
    compact(settings, now=NOON)
    tables = Home.of(settings).decision_days / "2026-01-05"
    (first,) = tables.glob("decisions-*.parquet")
    _age(first)  # written by the last hourly compaction
    with open_decisions(settings) as connection:
        write(settings, NOON, "2")
        compact(settings, now=NOON)
        assert connection.sql("SELECT user_id FROM decisions").fetchall() == [("1",)]
    _age(first)
    compact(settings, now=NOON)
    assert not first.exists()
    assert len(ids(settings)) == 2


def _age(path: Path) -> None:
    """Let a file be as old as after an hour and a bit."""
    moment = path.stat().st_mtime - 4_000
    os.utime(path, (moment, moment))
