"""A home as runs, gateways and people leave it, of users whose ids are 20 letters, so that each trace can be found."""

import asyncio
import json
import os
import random
import shutil
import string
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from recommender.datasets.contract import open_views
from recommender.datasets.statistics import measure
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import write_tables
from recommender.days import DayStore, promote
from recommender.days.fold import fold_in
from recommender.decision_tables import compact
from recommender.decisions.log import DecisionLog
from recommender.decisions.log import folders_of as folders_of_decisions
from recommender.events.contract import Event, Stamped
from recommender.events.log import EventLog
from recommender.events.log import folders_of as folders_of_events
from recommender.events.tail import line_of
from recommender.settings import Settings
from recommender.storage.home import Home, source_name
from recommender.storage.manifest import write_text
from recommender.storage.published import publish

RUN, PIPELINE = "20260105T000000.000000Z", "campaign-training"
LETTERS, WITHIN_S = 20, 60.0


def lettered(number: int, seed: int = 7) -> str:
    """The id of a user: 20 letters that nothing else holds."""
    return "".join(random.Random(f"{seed} {number}").choices(string.ascii_uppercase, k=LETTERS))


def fill(settings: Settings, folder: Path, *, num_users: int) -> list[str]:
    """Fill the home and the online store of `settings`, and return the ids of the users.

    Args:
        settings: of an empty home.
        folder: for what is made on the way.
        num_users: of the shop.
    """
    from feature_repo import build_training_set, materialise
    from recommender.features.build import build

    home = Home.of(settings)
    world = World.small(num_users=num_users, num_items=60, num_campaigns=8, days=200)
    ids: dict[str, str] = {}
    artifacts = home.run_artifacts(RUN) / PIPELINE
    made = _with_letters(generate(world, folder / "tables"), ids, artifacts / "ingest" / "tables")
    made = fold_in(made, DayStore.of(settings), lineage="benchmark", late_days=7)
    promote(made, DayStore.of(settings), log_end=made.log_end)
    _remember_figures(made, home.validated(source_name(settings)))
    features = build(made, artifacts / "build-features" / "features", as_of=made.log_end, threads=1)
    materialise(features, settings)
    training_set = artifacts / "build-training-set" / "training_set"
    build_training_set(features, made.folder, settings, training_set)
    publish(home, run=RUN, data_hash=made.data_hash, training_set=training_set)
    users = sorted(ids.values())
    work = home.checkpoints / "groundwork-0123456789abcdef"
    work.mkdir(parents=True)
    write_text(work / "facts.json", "{}")
    write_text(home.pipeline_cache / "step.json", json.dumps({"output": f"{home.pipeline_artifacts}/{RUN}/x"}))
    write_text(home.published.validation_page, f"<p>rows that failed: {', '.join(users)}</p>")
    _decide(settings, users)
    asyncio.run(_take_events(settings, users))
    _leave_draft(home)
    return users


def _remember_figures(tables: Tables, folder: Path) -> None:
    """What a valid run keeps for the next one."""
    from components.validate_data.validation import write_memory
    from components.validate_data.verdict import Verdict

    with open_views(tables) as connection:
        statistics = measure(connection, tables, tables.log_end)
    rows: dict[str, dict[str, float | None]] = {name: {"rows": number} for name, number in statistics.rows.items()}
    write_memory(Verdict(outcomes=(), figures=rows, statistics=statistics, data_hash=tables.data_hash), folder)


def _leave_draft(home: Home) -> None:
    """What a killed materialisation leaves of the offline store, long ago."""
    draft = home.feature_store.root / ".offline.0123abcd"
    shutil.copytree(home.feature_store.offline, draft)
    os.utime(draft, (1, 1))


def _with_letters(tables: Tables, ids: dict[str, str], folder: Path) -> Tables:
    """The same tables with other ids of users, which `ids` then knows."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    frames = {}
    for name in (name for name in CONTRACT if tables.has(name)):
        rows = ds.dataset(tables.folder / name, format="parquet", partitioning=None).to_table()
        if "user_id" in rows.column_names:
            named = [ids.setdefault(user, lettered(len(ids))) for user in rows["user_id"].to_pylist()]
            place = rows.column_names.index("user_id")
            rows = rows.set_column(place, rows.schema.field(place), pa.array(named, rows.schema.field(place).type))
        frames[name] = rows
    return write_tables(
        frames, folder, source="benchmark", time_zone=tables.time_zone, decisions=tables.manifest["decisions"]
    )


def _decide(settings: Settings, users: Sequence[str]) -> None:
    """Two decisions about each user: one in the tables of a day, one in a segment that nobody shipped."""
    own, shared = folders_of_decisions(settings)
    for ships in (True, False):
        log = DecisionLog(own, shared=shared if ships else None)
        log.start()
        for user in users:
            log.record(_decision(user))
        log.close()
        if ships:
            compact(settings)


def _decision(user: str) -> Mapping[str, Any]:
    return {
        "user_id": user,
        "variant": "champion",
        "propensity": 1.0,
        "as_of": "2026-01-05T00:00:00+00:00",
        "campaigns": [],
        "degraded_reasons": [],
        "context": {"page": "home"},
    }


async def _take_events(settings: Settings, users: Sequence[str]) -> None:
    """Two events of each user, as a gateway takes them: in the log, beside the row, and in Redis' stream."""
    from serving.event_tails.append import Append
    from serving.event_tails.tails import open_tails

    own, shared = folders_of_events(settings)
    log, tails, now_us = EventLog(own, shared), open_tails(settings), time.time_ns() // 1_000
    log.start()
    appends = []
    for number, user in enumerate([*users, *users]):
        event = Event(event_id=f"{user}-{number}", user_id=user, kind="follow")
        entry = log.submit(Stamped(event, now_us), now_us)
        line = line_of(Stamped(event, now_us), entry.segment.stem)
        appends.append(Append(user, event.event_id, line, orjson.dumps(event.model_dump(exclude_none=True))))
    await tails.append(appends, WITHIN_S)
    tails.close()
    log.close()
