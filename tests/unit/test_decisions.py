"""The decision log: what it acknowledged is there, whatever was killed."""

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recommender.decisions.log import DecisionLog, UnknownRequest, find, read_decisions, read_exposures

DECISION = {"user_id": "7", "campaigns": [{"campaign_id": "a", "score": 0.5}, {"campaign_id": "b", "score": 0.25}]}
WRITER = """
import sys
from pathlib import Path
from recommender.decisions.log import DecisionLog
log = DecisionLog(Path(sys.argv[1]), max_bytes=20_000)
while True:
    print(log.record({"user_id": "7", "campaigns": []}), flush=True)
"""


def test_no_acknowledged_decision_is_lost_to_kill_9_with_two_writers(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    acknowledged: list[str] = []
    for writer in writers:
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().strip() for _ in range(500)]
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
    for writer in writers:
        assert writer.stdout is not None
        with writer.stdout:
            acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        assert writer.wait() == -signal.SIGKILL
    logged = {decision["request_id"] for decision in read_decisions(tmp_path)}
    assert len(acknowledged) >= 1000
    assert set(acknowledged) <= logged
    assert len(list(tmp_path.glob("*.jsonl"))) > 2, "the files did not rotate by size"


def test_a_decision_is_found_by_its_request_id_in_another_process_s_file(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as one, DecisionLog(tmp_path) as two:
        ids = [log.record({**DECISION, "user_id": str(i)}) for i, log in enumerate([one, two, one, two])]
        two.expose(ids[0], ("a",))
        one.expose(ids[3])
    assert [find(tmp_path, request_id)["user_id"] for request_id in ids] == ["0", "1", "2", "3"]
    assert {e["request_id"]: e["campaign_ids"] for e in read_exposures(tmp_path)} == {ids[0]: ["a"], ids[3]: ["a", "b"]}


@pytest.mark.parametrize("request_id", ["", "x", "../../etc/passwd", "20170101-0123456789ab-0.0.0123456789abcdef"])
def test_an_unknown_request_id_is_named(tmp_path: Path, request_id: str) -> None:
    with DecisionLog(tmp_path) as log:
        log.record(DECISION)
        with pytest.raises(UnknownRequest, match=re.escape(repr(request_id))):
            log.expose(request_id)


def test_a_guessed_id_or_a_foreign_campaign_confirms_nothing(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as log:
        request_id = log.record(DECISION)
        with pytest.raises(UnknownRequest):
            log.expose(request_id[:-1] + ("0" if request_id[-1] != "0" else "1"))
        with pytest.raises(UnknownRequest, match="'z'"):
            log.expose(request_id, ("z",))
    assert list(read_exposures(tmp_path)) == []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as log:
        kept, torn = log.record(DECISION), log.record(DECISION)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-10])
    assert [decision["request_id"] for decision in read_decisions(tmp_path)] == [kept]
    with pytest.raises(UnknownRequest):
        find(tmp_path, torn)


def test_a_decision_whose_caller_hung_up_is_left_out_and_can_still_be_found(tmp_path: Path) -> None:
    with DecisionLog(tmp_path) as log:
        answered, hung_up = log.record(DECISION), log.record(DECISION)
        log.mark_undelivered(hung_up)
        last = log.record(DECISION)
    assert [decision["request_id"] for decision in read_decisions(tmp_path)] == [answered, last]
    assert find(tmp_path, hung_up)["user_id"] == "7"


def test_each_day_has_its_own_file(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, 23, 59, tzinfo=UTC)]
    with DecisionLog(tmp_path, clock=lambda: now[0]) as log:
        first = log.record(DECISION)
        now[0] += timedelta(minutes=2)
        second = log.record(DECISION)
    assert (first[:8], second[:8]) == ("20260101", "20260102")
    assert find(tmp_path, first)["at"] < find(tmp_path, second)["at"]


def test_a_full_disk_promises_nothing_and_the_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from recommender.decisions.log import DecisionLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = DecisionLog(Path(sys.argv[1]))
for _ in range(40):
    try:
        print(log.record({"user_id": "7", "campaigns": []}))
    except OSError:
        pass
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    acknowledged = run.stdout.split()
    assert 10 < len(acknowledged) < 40
    assert [d["request_id"] for d in sorted(read_decisions(tmp_path), key=lambda d: d["at"])] == acknowledged
