"""Finds out by trial which features need which part of a source, and writes recommender/features/needs.json.

    .venv/bin/python -m benchmarks.features.needs

Features of a small shop that has everything are built again without each part that a source may lack. What vanishes is
what needs it. `recommender.features.absent` reads the file. Run it again after a feature was added or removed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, EVENT_KINDS, TEXT, TIME, Tables, open_tables
from recommender.datasets.write import write_tables
from recommender.features import build
from recommender.features.absent import NEEDS_FILE, Part, told_parts

SMALL = World(num_users=20, num_items=24, num_campaigns=4, num_categories=4, days=90, seed=3)
EXAMPLES = {
    "age_band": ("18-29", "30-44", "45-59", "60+"),
    "income_band": ("Under 15K", "15-24K", "25-34K", "35-49K"),
    "query": ("milk", "bread", "cheese", "tea"),
}
"""Texts of columns that are read as numbers or words. Others get two words."""


@dataclass(frozen=True)
class CompleteShop:
    """A small shop with every table, column and kind of event of the contract."""

    frames: Mapping[str, pa.Table]
    as_of: object

    @classmethod
    def made(cls, folder: Path) -> "CompleteShop":
        """Make it from a synthetic world, whose missing columns get values by turns."""
        world = generate(SMALL, folder)
        frames = {
            name: ds.dataset(world.folder / name, format="parquet", partitioning=None).to_table() for name in CONTRACT
        }
        return cls({name: _completed(name, table) for name, table in frames.items()}, world.log_end)

    def without(self, missing: Iterable[Part], folder: Path) -> Tables:
        """Write it without some parts."""
        frames = dict(self.frames)
        for part in missing:
            if part.kinds:
                events = frames["events"]
                lacking = pc.invert(pc.is_in(events["kind"], pa.array(part.kinds)))
                frames["events"] = events.filter(lacking)
            else:
                gone = [name for name in part.columns if name in frames[part.table].column_names]
                frames[part.table] = frames[part.table].drop_columns(gone)
        facts = {"event_time_has_hours": False} if any(part.hours for part in missing) else {}
        write_tables(frames, folder, source="complete", time_zone="UTC", decisions=[], facts=facts)
        return open_tables(folder)


def _completed(name: str, table: pa.Table) -> pa.Table:
    """A table with all columns of the contract, and events of all kinds."""
    rows = table.num_rows
    if name == "events":
        bought = pc.equal(table["kind"], "purchase").to_pylist()
        others = [kind for kind in EVENT_KINDS if kind not in ("purchase", "return")]
        kinds = ["purchase" if is_bought else others[row % len(others)] for row, is_bought in enumerate(bought)]
        items = table["item_id"].drop_null().to_pylist()
        given = {"kind": pa.array(kinds), "item_id": pa.array([items[row % len(items)] for row in range(rows)])}
        for column, values in given.items():
            table = table.set_column(table.column_names.index(column), column, values)
    for column, wanted in CONTRACT[name].columns.items():
        if column in ("returned_at", "returned_share", "campaign_id", "currency"):
            continue
        if column in table.column_names and column not in ("rating", "query"):
            continue
        if wanted.dtype == TEXT:
            texts = EXAMPLES.get(column, ("one", "two"))
            values = pa.array([texts[row % len(texts)] for row in range(rows)], TEXT)
        elif wanted.dtype == TIME:
            values = pa.nulls(rows, TIME)
        else:
            values = pa.array([1.0 + row % 5 for row in range(rows)], wanted.dtype)
        table = table.drop_columns([column]) if column in table.column_names else table
        table = table.append_column(column, values)
    return table.select([column for column in table.column_names if column in CONTRACT[name].columns])


def names_of(tables: Tables, output: Path, as_of: object) -> list[str]:
    """The features that a build of these tables has, with `*` for the value in the name of those that stand for one."""
    from datetime import datetime, timedelta

    assert isinstance(as_of, datetime)
    with redirect_stdout(StringIO()):
        build(tables, output, as_of=as_of - timedelta(days=5), threads=1, facts=False)
    schema = json.loads((output / "schema.json").read_text(encoding="utf-8"))
    named = [name for part in ("portrait", "campaign", "cross") for name in schema[part]]
    return list(dict.fromkeys(_general(name, schema["values"]) for name in named))


def _general(name: str, values: Mapping[str, Mapping[str, str]]) -> str:
    """A feature's name without the value that it stands for."""
    from recommender.features.value_names import parts

    stands = values.get(name)
    if stands is None:
        return name
    (part,) = parts([stands["value"]], ["{}"]).values()
    kind, _, rest = name.partition("__")
    return f"{kind}__" + re.sub(rf"(^|_){re.escape(part)}(_|$)", r"\1*\2", rest, count=1)


def main() -> None:
    """Build the shop without each part, and write what vanished."""
    with TemporaryDirectory(prefix="needs-") as temporary:
        folder = Path(temporary)
        shop = CompleteShop.made(folder / "world")
        complete = names_of(shop.without([], folder / "all"), folder / "all features", shop.as_of)
        needs: dict[str, list[str]] = {}
        for place, part in enumerate(told_parts()):
            tables = shop.without([part], folder / f"tables {place}")
            left = set(names_of(tables, folder / f"features {place}", shop.as_of))
            gone = [name for name in complete if name not in left]
            already = {name for own in (needs.get(smaller.name, []) for smaller in part.smaller()) for name in own}
            if lost := [name for name in gone if name not in already]:
                needs[part.name] = lost
            print(f"{part.name}: {len(lost)}", flush=True)
    NEEDS_FILE.write_text(json.dumps(needs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
