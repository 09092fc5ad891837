"""CPU-seconds of a query over many compacted decisions, and of compacting segments.

The decisions are made up, with the columns of real ones: 30 days, a million users, two variants, three versions, five
campaigns an answer. Their tables are written by the product's own code.
"""

import argparse
import resource
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.decision.rows import Row
from recommender.datasets.engine import open_engine
from recommender.decision_tables import compact, open_decisions, schema
from recommender.decision_tables.compaction import write_table
from recommender.decision_tables.days import Day, DayManifest, days_of
from recommender.decisions.log import DecisionLog
from recommender.decisions.writer import Limits
from recommender.settings import Settings
from recommender.storage.home import Home

GOAL_CPU_S, GOAL_DECISIONS = 20.0, 50_000_000
"""The goal of the task: at most 20 CPU-seconds for 50 million decisions, in proportion for fewer."""
DAYS, USERS, CAMPAIGNS = 30, 1_000_000, 5
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
ANSWERS = 100
"""Different lists of campaigns. By hand: making more takes most of the time, and the query does not read them."""
ANSWER = (
    f"list_transform(range({CAMPAIGNS}), lambda c: {{'campaign_id': ((hash(j) + c) % 40)::VARCHAR, "
    "'score': (hash(j * 7 + c) % 1000000) / 1000000})"
)
COMPACTED = 200_000
"""Decisions that are written as segments and compacted."""
QUERY = "SELECT day, variant, model_version, count(*) AS answers, avg(propensity) FROM decisions GROUP BY ALL"


def rows(settings: Settings, chosen: argparse.Namespace, say: Callable[[str], None]) -> list[Row]:
    """Make the decisions unless they lie there already, and measure."""
    folder = Home.of(settings).benchmark("decision_log").resolve()
    return [_query(settings, folder / f"{chosen.decisions}", chosen.decisions, say), _compaction(settings, folder, say)]


def _query(settings: Settings, own: Path, num_decisions: int, say: Callable[[str], None]) -> Row:
    settings = settings.updated(home=own, serving={"state": own / "state"})
    began_s = time.process_time()
    _generate(settings, num_decisions)
    num_bytes = sum(path.stat().st_size for path in Home.of(settings).decision_days.rglob("*.parquet"))
    say(f"{num_decisions:,} decisions, {num_bytes / 2**30:.2f} GiB, {time.process_time() - began_s:.0f} CPU-s")
    seconds, walls, answers = [], [], 0
    for _ in range(3):
        cpu_s, wall_s = _cpu_s(), time.perf_counter()
        with open_decisions(settings) as connection:
            found = connection.execute(QUERY).fetchall()
        seconds.append(_cpu_s() - cpu_s)
        walls.append(time.perf_counter() - wall_s)
        answers = sum(row[3] for row in found)
    if answers != num_decisions - num_decisions // 1_000:
        raise AssertionError(f"the query counted {answers:,} of {num_decisions:,} decisions")
    limit = GOAL_CPU_S * num_decisions / GOAL_DECISIONS
    return Row.at_most(
        f"CPU-s of one query over {num_decisions / 1e6:g} M decisions",
        max(seconds),
        limit,
        wall_s=max(walls),
        groups=len(found),
        gib=num_bytes / 2**30,
        threads=settings.resources.threads,
        repeats=len(seconds),
    )


def _generate(settings: Settings, num_decisions: int) -> None:
    home, each = Home.of(settings), num_decisions // DAYS
    done = {day.folder.name for day in days_of(home) if day.manifest().parts}
    for number in range(DAYS):
        moment = FIRST_DAY + timedelta(days=number)
        day = Day.of(home, f"{moment:%Y%m%d}")
        if day.folder.name in done:
            continue
        day.folder.mkdir(parents=True, exist_ok=True)
        first = number * each
        last = num_decisions if number == DAYS - 1 else first + each
        # One engine a day, so that each gives back its memory.
        with open_engine(settings.resources, "bench") as (connection, _):
            connection.execute(f"SET VARIABLE answers = (SELECT list({ANSWER}) FROM range({ANSWERS}) t(j))")
            part = write_table(connection, day, "decisions", _made_up(first, last, moment))
        day.commit(DayManifest(parts={"decisions": part}))


def _made_up(first: int, last: int, moment: datetime) -> str:
    """A query that makes decisions of one day, by the numbers of the answers."""
    columns = {
        "day": f"DATE '{moment:%Y-%m-%d}'",
        "request_id": f"'{moment:%Y%m%d}-' || left(md5((i % 8)::VARCHAR), 12) || '-' || (i // 1000 % 17280) || '.' || "
        "to_hex(i % 1000 * 500) || '.' || lpad(to_hex(hash(i)), 16, '0')",
        "decided_at": f"TIMESTAMPTZ '{moment.isoformat()}' + to_microseconds((hash(i) % {DAY_US})::BIGINT)",
        "as_of": f"TIMESTAMPTZ '{moment.isoformat()}'",
        # Rows of a user lie together, as in real tables, without sorting 50 million rows here.
        "user_id": f"'user-' || lpad(((i - {first}) * {USERS} // {max(1, last - first)})::VARCHAR, 8, '0')",
        "variant": "CASE WHEN hash(i) % 10 = 0 THEN 'canary' ELSE 'champion' END",
        "propensity": "CASE WHEN hash(i) % 10 = 0 THEN 0.1 ELSE 0.9 END",
        "assigned_version": "'transformer-' || left(md5((hash(i) % 3)::VARCHAR), 10)",
        "model_version": "'transformer-' || left(md5((hash(i) % 3)::VARCHAR), 10)",
        "feature_age_s": "(hash(i) % 86400)::DOUBLE",
        "cold_start": "hash(i) % 50 = 0",
        "degraded": "false",
        "degraded_reasons": "[]::VARCHAR[]",
        "campaigns": f"getvariable('answers')[(hash(i) % {ANSWERS})::BIGINT + 1]",
        "candidates": "NULL::VARCHAR[]",
        "excluded": "[]::VARCHAR[]",
        "context": """'{"page":"home"}'""",
        "exploration_kind": "'epsilon'",
        "exploration_rate": "0.05::DOUBLE",
        "exploration_spread": "0.3::DOUBLE",
        "num_candidates": str(CAMPAIGNS) + "::BIGINT",
        "first_propensity": "CASE WHEN hash(i) % 20 = 0 THEN 0.01 ELSE 0.96 END",
        "list_propensity": "CASE WHEN hash(i) % 20 = 0 THEN 0.01 ELSE 0.96 END",
        "rerank_kind": "NULL::VARCHAR",
        "rerank_trade_off": "NULL::DOUBLE",
        "trace_id": "md5(i::VARCHAR)",
        "x_request_id": "md5((i + 1)::VARCHAR)",
    }
    if set(columns) != set(schema.DECISIONS):
        raise AssertionError(f"columns of the schema that are not made up: {set(schema.DECISIONS) ^ set(columns)}")
    made = ", ".join(f'{columns[name]} AS "{name}"' for name in schema.DECISIONS)
    # One answer in a thousand did not arrive.
    return f"SELECT {made}, i % 1000 <> 999 AS delivered FROM range({first}, {last}) t(i)"


def _compaction(settings: Settings, folder: Path, say: Callable[[str], None]) -> Row:
    apart = folder / "segments"
    shutil.rmtree(apart, ignore_errors=True)
    settings = settings.updated(home=apart, serving={"state": apart / "state"})
    own, shared = Home.of(settings).decisions / "own", Home.of(settings).decisions
    log = DecisionLog(own, shared=shared, limits=Limits(segment_s=3_600))
    log.start()
    with log:
        for number in range(COMPACTED):
            last = log.submit(_record(number))
        last.wait(60)
    num_bytes = sum(path.stat().st_size for path in shared.glob("*.jsonl"))
    cpu_s = _cpu_s()
    done = compact(settings)
    cpu_s = _cpu_s() - cpu_s
    if done.decisions != COMPACTED:
        raise AssertionError(f"{done.decisions:,} of {COMPACTED:,} decisions were compacted")
    table = sum(path.stat().st_size for path in Home.of(settings).decision_days.rglob("*.parquet"))
    say(f"{COMPACTED:,} decisions: {num_bytes / 2**20:.0f} MiB of segments, {table / 2**20:.0f} MiB of Parquet")
    shutil.rmtree(apart)
    return Row(
        name="CPU-s of compacting a million decisions",
        value=cpu_s / COMPACTED * 1e6,
        goal="",
        facts={
            "decisions": COMPACTED,
            "segment_bytes_each": num_bytes / COMPACTED,
            "table_bytes_each": table / COMPACTED,
        },
    )


def _record(number: int) -> dict[str, object]:
    return {
        "model_version": "transformer-0123456789",
        "variant": "champion",
        "as_of": "2026-01-05T12:00:00+00:00",
        "feature_age_s": 10.0,
        "cold_start": False,
        "user_id": str(number * 7919 % USERS),
        "candidates": None,
        "excluded": [],
        "context": {"page": "home"},
        "campaigns": [{"campaign_id": str(c), "score": 1 / (c + number % 97 + 2)} for c in range(CAMPAIGNS)],
        "propensity": 0.9,
        "assigned_version": "transformer-0123456789",
        "degraded_reasons": [],
    }


def _cpu_s() -> float:
    """CPU-seconds of this process with all of its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
