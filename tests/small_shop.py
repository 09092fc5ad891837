"""A small shop's own files with a mapping, written by a test and read by the real readers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from recommender.datasets import ingest
from recommender.datasets.contract import open_views
from recommender.datasets.tables import Tables
from recommender.settings import SourceSettings

EVENTS = """\
user_id,event_time,item_id,quantity,amount
17,2024-03-02 10:00:00,tin,1,9.5
18,2024-03-03 11:00:00,tin,1,9.5
17,2024-03-12 12:00:00,tin,2,19.0
"""
SOURCE = 'time_zone = "Europe/Berlin"\n'
PARTS = {
    "events": 'file = "events.csv"\nconstants = { kind = "purchase" }\n',
    "campaigns": 'file = "campaigns.csv"\nconstants = { kind = "promotion" }\n',
    "campaign_items": 'file = "campaign_items.csv"\n',
    "targets": 'file = "targets.csv"\n',
}


@dataclass
class SmallShop:
    """Four files in `folder`, and the mapping's sections by their names."""

    folder: Path
    source: str = SOURCE
    parts: dict[str, str] = field(default_factory=lambda: dict(PARTS))
    head: str = ""

    def __post_init__(self) -> None:
        self.write("events.csv", EVENTS)
        self.write("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,2024-03-10,2024-03-20\n")
        self.write("campaign_items.csv", "campaign_id,item_id\nspring,tin\n")
        self.write("targets.csv", "campaign_id,user_id\nspring,17\nspring,18\n")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def mapping(self) -> Path:
        sections = [f"[tables.{name}]\n{text}" for name, text in self.parts.items()]
        self.write("mapping.toml", "\n".join([f"[source]\n{self.source}", self.head, *sections]))
        return self.folder / "mapping.toml"

    def read(self) -> Tables:
        return ingest(SourceSettings(dataset="files", mapping=str(self.mapping())), self.folder / "tables")


def ask(tables: Tables, query: str) -> list[tuple[object, ...]]:
    with open_views(tables) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def memory() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
