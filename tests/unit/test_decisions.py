"""The decision log: what it acknowledged is there, whatever was killed."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recommender.decisions.log import DecisionLog, LogFull, UnknownRequest, find
from recommender.decisions.names import segments_in
from recommender.decisions.shipping import ship
from recommender.decisions.writer import Limits

DECISION = {"user_id": "7", "campaigns": [{"campaign_id": "a", "score": 0.5}, {"campaign_id": "b", "score": 0.25}]}
WRITER = """
import sys
from pathlib import Path
from recommender.decisions.log import DecisionLog
from recommender.decisions.writer import Limits
log = DecisionLog(Path(sys.argv[1]), shared=Path(sys.argv[2]), limits=Limits(segment_bytes=20_000, segment_s=0.2))
log.start()
print(log.writer.name, flush=True)
while True:
    print(log.record({"user_id": "7", "campaigns": []}), flush=True)
"""
SHORT = Limits(segment_s=0.1)


def lines(*folders: Path) -> list[dict[str, object]]:
    """All lines of all segments, each segment once."""
    paths = {path.name: path for folder in folders for path in segments_in(folder)}
    return [json.loads(line) for path in paths.values() for line in path.read_bytes().splitlines(keepends=True)]


def ids(*folders: Path) -> list[object]:
    """Request ids of all decisions, in the order of the lines."""
    return [line["request_id"] for line in lines(*folders) if "event" not in line]


def until(true: object) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_acknowledged_decision_is_lost_or_doubled_by_ten_kills(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    acknowledged: list[str] = []
    for turn in range(5):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(own), str(shared)], stdout=subprocess.PIPE, stderr=None, text=True
            )
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
            acknowledged += [writer.stdout.readline().strip() for _ in range(100)]
        time.sleep(0.1 * turn)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            assert writer.stdout is not None
            with writer.stdout:
                acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
            assert writer.wait() == -signal.SIGKILL
    assert set(acknowledged) <= set(ids(own, shared))
    with DecisionLog(own, shared=shared) as log:
        log.start()
    assert segments_in(own) == []
    logged = ids(shared)
    assert set(acknowledged) <= set(logged)
    assert len(logged) == len(set(logged))
    assert len(acknowledged) >= 1_000


def test_a_decision_is_found_by_its_request_id_in_another_process_s_file(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as one, DecisionLog(tmp_path) as two:
        known = [log.record({**DECISION, "user_id": str(i)}) for i, log in enumerate([one, two, one, two])]
        two.expose(known[0], ("a",))
        one.expose(known[3])
    assert [find([tmp_path], request_id)["user_id"] for request_id in known] == ["0", "1", "2", "3"]
    shown = {line["request_id"]: line["campaign_ids"] for line in lines(tmp_path) if line.get("event") == "exposed"}
    assert shown == {known[0]: ["a"], known[3]: ["a", "b"]}


@pytest.mark.parametrize("request_id", ["", "x", "../../etc/passwd", "20170101-0123456789ab-0.0.0123456789abcdef"])
def test_an_unknown_request_id_is_named(tmp_path: Path, request_id: str) -> None:
    with DecisionLog(tmp_path / "own", shared=tmp_path / "shared") as log:
        log.record(DECISION)
        with pytest.raises(UnknownRequest, match=re.escape(repr(request_id))):
            log.expose(request_id)


def test_a_guessed_id_a_place_past_the_end_or_a_foreign_campaign_confirms_nothing(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "own", shared=tmp_path / "shared") as log:
        request_id = log.record(DECISION)
        stem, _, token = request_id.split(".")
        for guessed in (f"{request_id[:-1]}{'0' if request_id[-1] != '0' else '1'}", f"{stem}.ffffff.{token}"):
            with pytest.raises(UnknownRequest):
                log.expose(guessed)
        with pytest.raises(UnknownRequest, match="'z'"):
            log.expose(request_id, ("z",))
    assert [line for line in lines(tmp_path / "own") if "event" in line] == []


def test_an_exposure_of_another_replica_s_decision_is_taken_before_that_is_shipped(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    with DecisionLog(tmp_path / "one", shared=shared) as one, DecisionLog(tmp_path / "two", shared=shared) as two:
        request_id = one.record(DECISION)
        two.expose(request_id)
        old = f"{datetime.now(UTC) - timedelta(days=3):%Y%m%d}{request_id[8:]}"
        with pytest.raises(UnknownRequest):
            two.expose(old)
    (exposed,) = [line for line in lines(tmp_path / "two") if line.get("event") == "exposed"]
    assert (exposed["request_id"], exposed["campaign_ids"]) == (request_id, None)


def test_a_decision_whose_caller_hung_up_is_marked_behind_it_and_can_still_be_found(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as log:
        hung_up = log.record(DECISION)
        log.mark_undelivered(hung_up)
        log.record(DECISION)
    assert [line.get("event") for line in lines(tmp_path)] == [None, "undelivered", None]
    assert find([tmp_path], hung_up)["user_id"] == "7"


def test_a_torn_last_line_is_no_decision_and_is_not_shipped(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    with DecisionLog(own) as log:
        kept, torn = log.record(DECISION), log.record(DECISION)
    (file,) = segments_in(own)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UnknownRequest):
        find([own], torn)
    ship(own, shared, lambda _: None)
    assert ids(shared) == [kept]
    assert lines(shared)[-1]["lines"] == 1


def test_a_step_of_the_clock_over_midnight_moves_no_record_to_another_day_s_segment(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, 23, 59, tzinfo=UTC)]
    with DecisionLog(tmp_path, clock=lambda: now[0]) as log:
        known = [log.record(DECISION)]
        for step in (timedelta(minutes=2), timedelta(minutes=-3), timedelta(days=30), timedelta(days=-30)):
            now[0] += step
            known.append(log.record(DECISION))
    assert [request_id[:8] for request_id in known] == ["20260101", "20260102", "20260101", "20260131", "20260101"]
    assert all(str(find([tmp_path], one)["at"]).replace("-", "").startswith(one[:8]) for one in known)
    in_order = sorted(segments_in(tmp_path), key=lambda path: int(path.stem.split("-")[2]))
    assert [json.loads(line)["request_id"] for path in in_order for line in path.read_text().splitlines()] == known


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_records_wait_in_order_and_overflow_is_counted(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="recommender.decisions")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 56 * 2**10)
    log = DecisionLog(small_disk / "log", limits=Limits(buffer_bytes=20_000, segment_bytes=10_000))
    submitted, refused = [], 0
    for _ in range(300):
        try:
            submitted.append(log.submit(DECISION))
        except LogFull:
            refused += 1
        time.sleep(0.0005)
    until(lambda: log.writer.stalled_s() > 0.2)
    assert 0 < log.writer.lost == refused
    assert not submitted[-1].written
    assert len(list(small_disk.rglob("*.jsonl"))) <= 2
    ballast.unlink()
    assert submitted[-1].wait(10)
    log.close()
    assert ids(small_disk / "log") == [entry.request_id for entry in submitted]
    states = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert states == ["decision log is stuck", "decision log writes again"]


def test_a_disk_that_hangs_delays_nobody_longer_than_the_setting_and_only_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, works_again = os.pwrite, threading.Event()

    def hang(descriptor: int, content: bytes, offset: int) -> int:
        assert works_again.wait(60)
        return pwrite(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", hang)

    async def answer(log: DecisionLog) -> tuple[float, bool]:
        began = time.monotonic()
        is_written = await log.written(log.submit(DECISION))
        return time.monotonic() - began, is_written

    async def all_answers(log: DecisionLog) -> list[tuple[float, bool]]:
        first = [await answer(log) for _ in range(20)]
        works_again.set()
        while log.writer.stalled_s():
            await asyncio.sleep(0.02)
        return [*first, await answer(log)]

    with DecisionLog(tmp_path, wait_s=1.0) as log:
        *late, last = asyncio.run(all_answers(log))
    assert [is_written for _, is_written in late] == [False] * 20
    assert 1.0 <= late[0][0] < 20
    assert sum(seconds for seconds, _ in late[1:]) < 10, "each of them waited"
    assert last[1]
    assert len(ids(tmp_path)) == 21


def test_closed_segments_are_shipped_while_the_writer_goes_on_and_the_rest_when_it_is_closed(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    log = DecisionLog(own, shared=shared, limits=SHORT)
    log.start()
    first = log.record(DECISION)
    until(lambda: segments_in(shared))
    assert ids(shared) == [first]
    until(lambda: not segments_in(own))
    last = log.record(DECISION)
    log.expose(first)
    log.close()
    assert ids(shared) == [first, last]
    assert segments_in(own) == []
    assert find([own, shared], first)["user_id"] == "7"


def test_a_shared_folder_that_is_away_delays_shipping_alone(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    shared.write_text("a file where the folder should be", encoding="utf-8")
    log = DecisionLog(own, shared=shared, limits=SHORT)
    log.start()
    first = log.record(DECISION)
    until(lambda: log.backlog.segments)
    second = log.record(DECISION)
    time.sleep(0.2)
    assert log.backlog.num_bytes > 0
    assert log.backlog.lag_s() > 0
    shared.unlink()
    until(lambda: set(ids(shared)) == {first, second})
    until(lambda: not log.backlog.segments)
    log.close()


def test_a_backlog_that_may_not_grow_waits_like_a_full_disk_until_it_is_shipped(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    shared.write_text("a file where the folder should be", encoding="utf-8")
    limits = Limits(segment_s=60, segment_bytes=1_000, backlog_bytes=3_000)
    log = DecisionLog(own, shared=shared, limits=limits)
    log.start()
    submitted = [log.submit(DECISION) for _ in range(40)]
    until(lambda: log.writer.stalled_s() > 0.2)
    assert sum(path.stat().st_size for path in segments_in(own)) < 5_000
    shared.unlink()
    assert submitted[-1].wait(20)
    log.close()
    assert ids(shared) == [entry.request_id for entry in submitted]


def test_a_kill_between_the_rename_and_the_deletion_leaves_the_segment_once(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    with DecisionLog(own) as log:
        known = log.record(DECISION)
    (segment,) = segments_in(own)
    content = segment.read_bytes()
    ship(own, shared, lambda _: None)
    shipped = (shared / segment.name).read_bytes()
    segment.write_bytes(content)
    ship(own, shared, lambda _: None)
    assert (shared / segment.name).read_bytes() == shipped
    assert (segments_in(own), ids(shared)) == ([], [known])
