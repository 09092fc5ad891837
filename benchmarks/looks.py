"""What a ranker gains from knowing which items shoppers looked at, in a shop that sees most of them look and few buy.

A synthetic world in which take-up follows how much a shopper buys in the campaign's category. `HIDDEN` of the purchases
are then taken out of the log, as if they were made at a till that does not know the shopper. Views, clicks and carts
stay. The same log with the items of the looks blanked has the same features but those of looks. Searches and reviews
say nothing here: `benchmarks.interest` measures them.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks.decision.rows import Row
from benchmarks.gains_by_origin import gains, origins, training_set
from recommender.datasets.periods import resolve
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import write_tables
from recommender.features.training_set import TrainingSet
from recommender.matching.look_rules import ITEM_KINDS
from recommender.settings import Settings

HIDDEN = 0.9
"""Share of the purchases without a coupon that the log lacks."""
SEED = 7


def looks(place: Path) -> list[Row]:
    """Gains from looks by rolling origin: of the logistic ranker, and of the transformer from looks in its history."""
    frames, world = shop_frames(place / "looks-world")
    events = without_items(frames["events"], ["review"]).drop_columns(["query"])
    tables = written({**frames, "events": events}, place / "with", world)
    blank = written({**frames, "events": without_items(events, ITEM_KINDS)}, place / "without", world)
    settings = Settings(home=place / "looks-var")
    as_of = resolve(settings, tables).as_of
    without = training_set(blank, place / "blanked", as_of)
    by_hand = training_set(tables, place / "by-hand", as_of)
    # Before the first origin, so that nothing that judges has taught.
    before = origins(without, settings)[0][0]
    learnt = training_set(tables, place / "learnt", as_of, before)
    values = json.loads((place / "learnt" / "features" / "schema.json").read_text(encoding="utf-8"))["looks"]
    print(f"learnt before {before:%Y-%m-%d}: {values}")
    shop = f"{HIDDEN:.0%} of purchases unseen"
    return [
        *gains(without, by_hand, settings, f"looks, {shop}, weights by hand"),
        *gains(by_hand, learnt, settings, f"looks, {shop}, weights learnt over weights by hand"),
        *_of_histories(learnt, settings, f"looks in its history, {shop}"),
    ]


def _of_histories(data: TrainingSet, settings: Settings, name: str) -> list[Row]:
    """What the transformer gains from looks in their order, beside the same features of affinity."""
    return gains(data, data, settings, name, ranker_name="transformer", set_without={"look_baskets": 0})


def shop_frames(folder: Path) -> tuple[dict[str, pa.Table], World]:
    """The tables of the shop, whose log lacks `HIDDEN` of the purchases without a coupon."""
    world = World.small(seed=SEED, lines_a_basket=3.0)
    made = generate(world, folder)
    frames = {}
    for name, contract in CONTRACT.items():
        table = ds.dataset(made.folder / name, format="parquet", partitioning=None).to_table()
        frames[name] = table.select([column for column in table.column_names if column in contract.columns])
    events = frames["events"].sort_by("event_id")
    drawn = np.random.default_rng(SEED).random(len(events)) < HIDDEN
    bought = pc.and_(pc.equal(events["kind"], "purchase"), pc.equal(events["coupon_discount"], 0.0))
    frames["events"] = events.filter(pc.invert(pc.and_(pc.fill_null(bought, False), pa.array(drawn))))
    return frames, world


def without_items(events: pa.Table, kinds: Sequence[str]) -> pa.Table:
    """Events of which those of some kinds do not say which item they were about."""
    is_one = pc.is_in(events["kind"], pa.array(list(kinds)))
    items = pc.if_else(is_one, pa.scalar(None, pa.string()), events["item_id"])
    return events.set_column(events.column_names.index("item_id"), "item_id", items)


def written(frames: dict[str, pa.Table], folder: Path, world: World) -> Tables:
    """Write tables of this shop."""
    return write_tables(frames, folder, source="test", time_zone=world.time_zone, decisions=[])
