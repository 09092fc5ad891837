"""What the daily partitions become if the tables of a run are found valid.

Ingestion proposes, and validation promotes. The proposal is a file beside the tables, so that it goes wherever they go:
through the cache of steps, an object store, or a step that is run again. Partitions are written only when it is
promoted. So an export that is refused leaves the partitions as they were.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from recommender import logs
from recommender.datasets.engine import open_engine
from recommender.datasets.tables import CONTRACT, Tables
from recommender.days.index import UNREAD, DayIndex
from recommender.days.store import DayStore
from recommender.errors import CorruptFileError
from recommender.event_tables.forgotten_rows import rows_without
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings
from recommender.storage.forgotten import Forgotten
from recommender.storage.manifest import write_text

FILE = "days.json"
"""In a folder of tables. Their manifest does not list it: it says nothing about their content."""
log = logs.get(__name__)


@dataclass(frozen=True)
class Proposal:
    """A state of the partitions that waits for the verdict on the tables beside it."""

    before: str
    """The state that it was made from (`DayIndex.state`)."""
    index: DayIndex
    """Days that may have changed are `UNREAD`."""

    def save(self, folder: Path) -> None:
        """Write it into a folder of tables."""
        write_text(folder / FILE, json.dumps({"before": self.before, **asdict(self.index)}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The proposal of a folder of tables. None where there is none.

        Raises:
            CorruptFileError: the file is damaged; names it.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(facts["before"]), DayIndex.of_facts(facts))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptFileError(
                f"{path}: not a proposal of days ({error}); read the source again with: recommender run --fresh"
            ) from None


def promote(
    tables: Tables,
    store: DayStore,
    *,
    log_end: datetime,
    forgotten: Collection[str] | Forgotten = (),
    resources: ResourceSettings = DEFAULT_RESOURCES,
) -> None:
    """Put into force what ingestion proposed beside `tables`. Safe to repeat, and to kill.

    Nothing changes where there is no proposal, or where another run was promoted since this one read the partitions:
    the next run then compares with that one.

    Args:
        tables: what ingestion wrote, without what came too late.
        store: the partitions.
        log_end: the end of the log without the rows that validation set aside.
        forgotten: users who were forgotten, some perhaps since ingestion. Partitions get no row of them.
        resources: of DuckDB.

    Raises:
        CorruptFileError: the proposal or the index is damaged; names it.
    """
    proposal = Proposal.load(tables.folder)
    if proposal is None:
        return
    with store.turn() as now:
        asked = proposal.index.backfills
        backfills = tuple(
            replace(one, done=one.done or (place < len(asked) and asked[place].done))
            for place, one in enumerate(now.backfills)
        )
        if now.state != proposal.before:
            if not _says_the_same(now, proposal.index):
                log.warning(
                    "another run has changed the days of this source meanwhile; the next run compares with that one",
                    path=str(store.folder),
                )
            return
        watermark = min(tables.log_end, log_end).astimezone(UTC).isoformat()
        with open_engine(resources, "days") as (connection, _):
            days = {
                day: store.write(day, _rows(connection, tables, day, forgotten), watermark, now.days.get(day))
                if one == UNREAD
                else now.days[day]
                for day, one in proposal.index.days.items()
            }
        after = replace(
            proposal.index, watermark=watermark if proposal.index.watermark else "", days=days, backfills=backfills
        )
        store.commit(now, after)
        changed = sum(now.days.get(day) != one for day, one in days.items())
    log.info("daily partitions are in force", days=len(days), changed=changed, watermark=after.watermark)


def rows_of_day(connection: duckdb.DuckDBPyConnection, rows: str, day: str) -> pa.Table:
    """The events of one UTC day (ISO) among `rows`, the SQL of a table. Equal rows come in an equal order."""
    start = f"TIMESTAMPTZ '{day} 00:00:00+00'"
    end = f"TIMESTAMPTZ '{date.fromisoformat(day) + timedelta(days=1)} 00:00:00+00'"
    found = connection.sql(f"SELECT * FROM {rows} LIMIT 0").columns
    columns = [name for name in CONTRACT["events"].columns if name in found]
    columns += [name for name in found if name not in columns]
    # After the key of the order all other columns count.
    first = ("user_id", "event_time", "event_id")
    order = ", ".join(f"{name} NULLS LAST" for name in (*first, *(one for one in columns if one not in first)))
    return connection.sql(
        f"SELECT {', '.join(columns)} FROM {rows} WHERE event_time >= {start} AND event_time < {end} ORDER BY {order}"
    ).to_arrow_table()


def _rows(
    connection: duckdb.DuckDBPyConnection, tables: Tables, day: str, forgotten: Collection[str] | Forgotten
) -> pa.Table:
    literal = str(tables.folder / "events" / day[:7] / "*.parquet").replace("'", "''")
    rows = rows_of_day(connection, f"read_parquet('{literal}', hive_partitioning = false)", day)
    return rows_without(rows, forgotten) if len(forgotten) else rows


def _says_the_same(now: DayIndex, proposed: DayIndex) -> bool:
    """Whether a proposal was promoted before, as far as it names files."""
    return (now.lineage, now.months, now.held) == (proposed.lineage, proposed.months, proposed.held) and all(
        day in now.days and one.file in ("", now.days[day].file) for day, one in proposed.days.items()
    )
