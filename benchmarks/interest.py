"""What a ranker gains from searches, from reviews and from the seconds of views, each alone, by rolling origin.

The shop is that of `benchmarks.looks`: its log lacks most purchases, and take-up follows how much a shopper really buys
in the campaign's category. Each row compares two logs that differ in one kind of event. Half of the searches have other
words than the names of what they mean, so that the text encoder must match them. Half of the reviews have words and no
rating. Beside each view there is a glance of a few seconds at any item.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.decision.rows import Row
from benchmarks.gains_by_origin import gains, origins, training_set
from benchmarks.looks import HIDDEN, SEED, shop_frames, without_items, written
from recommender.datasets.periods import resolve
from recommender.features.training_set import TrainingSet
from recommender.matching.look_rules import ITEM_KINDS
from recommender.settings import Settings

OTHER_WORDS = {
    "coffee": ("espresso", "a latte"),
    "tea": ("earl grey", "chai"),
    "bread": ("baguette", "sourdough loaf"),
    "cheese": ("mozzarella", "cheddar"),
    "yogurt": ("skyr", "kefir"),
    "cereal": ("muesli", "cornflakes"),
    "pasta": ("spaghetti", "macaroni"),
    "soup": ("broth", "minestrone"),
}
"""Category -> other words for it, by hand."""
SAID = {
    1.0: ("Terrible, never again", "Awful taste, I threw it away", "A waste of money"),
    2.0: ("Not good, rather disappointing", "I did not like it much", "Poor quality for the price"),
    3.0: ("It is all right", "Average, nothing special", "Neither good nor bad"),
    4.0: ("Good, I would buy it again", "We like it, nice taste", "Quite tasty and fresh"),
    5.0: ("Excellent, we love it", "The best I ever had", "Wonderful, highly recommended"),
}
"""Rating -> words that go with it, by hand."""
SEEN_S, GLANCED_S = 60.0, 4.0
"""Median seconds of a view of what is bought then, and of a glance. By hand; both are lognormal."""


def interest(place: Path) -> list[Row]:
    """Gains of the logistic ranker from each kind of event."""
    frames, world = shop_frames(place / "interest-world")
    every = frames["events"]
    nothing = _written_about(without_items(every, [*ITEM_KINDS, "review"]))
    nothing = _column(nothing, "query", pa.nulls(len(nothing), pa.string()))
    is_review = pc.equal(every["kind"], "review")
    seen = _with_glances(every, frames["items"])
    logs = {
        "nothing": nothing,
        "searches": _column(nothing, "query", _in_other_words(every["query"])),
        "reviews": _column(nothing, "item_id", pc.if_else(is_review, every["item_id"], nothing["item_id"])),
        "views": seen.drop_columns(["dwell_s"]),
        "seen": seen,
    }
    settings = Settings(home=place / "interest-var")
    sets: dict[str, TrainingSet] = {}
    for name, events in logs.items():
        own = place / "interest" / name
        tables = written({**frames, "events": events}, own / "tables", world)
        # Before the first origin, so that nothing that judges has taught.
        before = origins(sets["nothing"], settings)[0][0] if sets else None
        sets[name] = training_set(tables, own, resolve(settings, tables).as_of, before)
        schema = json.loads((own / "features" / "schema.json").read_text(encoding="utf-8"))
        print(f"{name}: {schema.get('looks')}")
    shop = f"{HIDDEN:.0%} of purchases unseen"
    return [
        *gains(sets["nothing"], sets["searches"], settings, f"searches, {shop}"),
        *gains(sets["nothing"], sets["reviews"], settings, f"reviews, {shop}"),
        *gains(sets["views"], sets["seen"], settings, f"seconds of views over views alone, {shop}"),
    ]


def _column(events: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return events.set_column(events.column_names.index(name), name, values)


def _in_other_words(queries: pa.ChunkedArray) -> pa.Array:
    """Searches, half of them in other words."""
    rng = np.random.default_rng(SEED)
    found = queries.to_pylist()
    for row, query in enumerate(found):
        if query is not None and rng.random() < 0.5:
            words = OTHER_WORDS[query.split()[-1]]
            found[row] = words[int(rng.integers(len(words)))]
    return pa.array(found, pa.string())


def _written_about(events: pa.Table) -> pa.Table:
    """Reviews with words, and half of them without a rating."""
    rng = np.random.default_rng(SEED)
    texts: list[str | None] = []
    ratings = events["rating"].to_pylist()
    for row, rating in enumerate(ratings):
        texts.append(None if rating is None else SAID[rating][int(rng.integers(len(SAID[rating])))])
        if rating is not None and rng.random() < 0.5:
            ratings[row] = None
    events = _column(events, "rating", pa.array(ratings, pa.float64()))
    return events.append_column("text", pa.array(texts, pa.string()))


def _with_glances(events: pa.Table, items: pa.Table) -> pa.Table:
    """Views with their seconds, as many glances at any item, and no other look."""
    rng = np.random.default_rng(SEED)
    others = [*(kind for kind in ITEM_KINDS if kind != "view"), "review"]
    events = _column(without_items(events, others), "query", pa.nulls(len(events), pa.string()))
    is_view = pc.and_(pc.equal(events["kind"], "view"), pc.is_valid(events["item_id"])).to_numpy()
    seconds_E = rng.lognormal(np.log(SEEN_S), 0.8, size=len(events))
    glances = events.filter(pa.array(is_view))
    at_any = pa.array(rng.choice(items["item_id"].to_pylist(), size=len(glances)), pa.string())
    glances = _column(glances, "item_id", at_any)
    glances = _column(glances, "event_id", pc.binary_join_element_wise(glances["event_id"], "glance", "-"))
    glances = glances.append_column("dwell_s", pa.array(rng.lognormal(np.log(GLANCED_S), 0.8, size=len(glances))))
    views = events.append_column("dwell_s", pa.array(seconds_E, mask=~is_view))
    return pa.concat_tables([views, glances])
