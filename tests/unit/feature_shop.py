"""A small shop for the tests of features: its tables as Arrow, to be changed and written again."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, Tables, open_tables
from recommender.datasets.write import write_tables

AS_OF = datetime(2024, 7, 1, 5, tzinfo=UTC)
"""A midnight of the shop's zone in the middle of its log."""


@dataclass(frozen=True)
class Shop:
    frames: dict[str, pa.Table]

    @classmethod
    def generate(cls, folder: Path) -> "Shop":
        world = World(num_users=150, num_items=90, num_campaigns=12, num_categories=6, days=240, seed=3)
        tables = generate(world, folder)
        read = {
            name: ds.dataset(tables.folder / name, format="parquet", partitioning=None).to_table() for name in CONTRACT
        }
        return cls(
            {
                name: table.select([c for c in table.column_names if c in CONTRACT[name].columns])
                for name, table in read.items()
            }
        )

    def adding(self, table: str, rows: list[dict[str, object]]) -> "Shop":
        """This shop with more rows. Columns that a row does not name are missing."""
        schema = self.frames[table].schema
        added = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
        return replace(self, frames={**self.frames, table: pa.concat_tables([self.frames[table], added])})

    def without(self, table: str, *columns: str) -> "Shop":
        return replace(self, frames={**self.frames, table: self.frames[table].drop_columns(list(columns))})

    def write(self, folder: Path) -> Tables:
        write_tables(self.frames, folder, source="test", time_zone="America/Chicago", decisions=[])
        return open_tables(folder)
