"""The looks of a shop as tables: who looked at which item or searched for which value, when, and how much it counts."""

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from recommender.features.source import Source, if_else, whole_seconds
from recommender.matching.look_rules import DWELT, ITEM_KINDS, MOST_DWELT, MOST_RATED, STRENGTH_UNIT, LookRules


def item_looks(source: Source, rules: LookRules, texts: pa.Table | None) -> ir.Table:
    """Looks at items: user_id, kind, event_time, time_s, item_id and strength (in `STRENGTH_UNIT`, never 0).

    Args:
        source: the tables.
        rules: say how strong a look is.
        texts: text and rating of reviews that have no rating of their own.
    """
    events = source.table("events")
    if "item_id" not in events.columns:
        events = events.mutate(item_id=ibis.null().cast("string"))
    kinds = list(ITEM_KINDS)
    if rules.rating_mean is not None and "rating" in events.columns:
        kinds.append("review")
        if texts is not None and texts.num_rows:
            read = ibis.memtable(texts.rename_columns(["read_text", "read"]))
            events = events.left_join(read, (events.kind == "review") & (events.text == read.read_text))
            events = events.mutate(rating=ibis.coalesce(events.rating, events.read))
    looks = events.filter(events.kind.isin(kinds), events.item_id.notnull())
    looks = looks.mutate(strength=_strength(looks, rules), time_s=whole_seconds(looks.event_time))
    looks = looks.filter(looks.strength.notnull(), looks.strength != 0)
    return looks.select("user_id", "kind", "event_time", "time_s", "item_id", "strength")


def search_looks(source: Source, matches: pa.Table | None) -> ir.Table | None:
    """Searches by the values that they mean: user_id, kind, event_time, time_s, axis, value, strength. None: none."""
    if matches is None or not matches.num_rows:
        return None
    events = source.table("events")
    asked = events.filter(events.kind == "search", events["query"].notnull())
    asked = asked.select("user_id", "kind", "event_time", "query", time_s=whole_seconds(asked.event_time))
    return asked.inner_join(ibis.memtable(matches), "query").drop("query")


def _strength(looks: ir.Table, rules: LookRules) -> Any:
    """As `LookRules.dwelt` and `LookRules.rated` compute it."""
    plain: Any = ibis.literal(STRENGTH_UNIT).cast("int64")
    strength = plain
    if "dwell_s" in looks.columns:
        seconds: Any = looks.dwell_s.cast("float64").clip(lower=0.0)
        dwelt = ((seconds / rules.dwell_s + 1.0).ln() / float(np.log(2.0))).clip(upper=MOST_DWELT)
        counted = if_else(looks.dwell_s.notnull(), (dwelt * STRENGTH_UNIT).round().cast("int64"), plain)
        strength = if_else(looks.kind.isin(list(DWELT)), counted, plain)
    if rules.rating_mean is not None and "rating" in looks.columns:
        above = (looks.rating.cast("float64") - rules.rating_mean) / rules.rating_spread
        rated = (above.clip(lower=-MOST_RATED, upper=MOST_RATED) * STRENGTH_UNIT).round().cast("int64")
        strength = if_else(looks.kind == "review", rated, strength)
    return strength
