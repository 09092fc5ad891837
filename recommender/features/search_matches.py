"""Says which values of the taxonomy the searches of a shop mean: by their words, else by the text encoder.

The words decide where each of them is in a matched name (`recommender.matching.search_words`). Otherwise the encoder
does, where it is installed: on each axis with meaning the values whose names are nearest to the search. Without the
encoder, or where it finds nothing near, what the words say stands.

Shapes: Q searches · n values of an axis · D width of a vector.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender import logs
from recommender.errors import SettingsError
from recommender.features.source import TIME_TYPE, Source
from recommender.matching.affinity import AXES
from recommender.matching.look_rules import STRENGTH_UNIT
from recommender.matching.search_words import Matched, Part, WordIndex
from recommender.sequences.text import PACKAGE, encoder_folder, text_vectors

MOST_SEARCHES, MOST_ENCODED = 50_000, 2_000
"""Distinct searches that are matched, and those of them that the encoder reads: the most frequent ones. By hand: 2,000
take some ten seconds, and rare ones say nothing about other shoppers."""
MEANT = ("product", "product_type", "category", "department")
"""Axes whose names mean something. A brand's name is not near to what it makes."""
MOST_NAMES = 2_000
"""An axis with more names is left to the words, because each name takes five milliseconds."""
NEAR, WITHIN, NEAREST = 0.45, 0.1, 3
"""Cosine from which a name is near, how far below the nearest others still count, and how many at most. By hand, after
packaged MiniLM's cosines of common searches with a grocer's categories: espresso and coffee 0.56, diapers and nappies
0.54; of what the shop does not sell at most 0.40 (batteries and candles)."""
SCHEMA = pa.schema({"query": pa.string(), "axis": pa.int32(), "value": pa.int32(), "strength": pa.int64()})

log = logs.get(__name__)


def has_encoder() -> bool:
    """Whether the extra `text` is installed."""
    try:
        encoder_folder()
    except SettingsError:
        return False
    return importlib.util.find_spec("sentence_transformers") is not None


def search_matches(source: Source, *, encoder: bool, cache: Path | None) -> tuple[pa.Table, dict[str, object]]:
    """Match the distinct searches before `as_of`.

    Args:
        source: the tables.
        encoder: whether the text encoder may be used.
        cache: a folder that keeps the encoder's vectors by the words' hash.

    Returns:
        A row for each value that a search means (`SCHEMA`), and how many searches were matched how.
    """
    queries, left_out = _queries(source)
    if not queries:
        return SCHEMA.empty_table(), {}
    index = WordIndex(source.taxonomy.names, source.taxonomy.axis_values)
    found = {query: index.match(query) for query in queries}
    unclear = [query for query, matched in found.items() if not matched.is_whole]
    encoded: dict[str, tuple[Part, ...]] = {}
    uses_encoder = encoder and bool(unclear) and has_encoder()
    if uses_encoder:
        encoded = _nearest(source, unclear[:MOST_ENCODED], cache)
    parts = {query: encoded.get(query) or matched.parts for query, matched in found.items()}
    rows = [(query, *part) for query, of_query in parts.items() for part in of_query]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)
    said = _said(found, encoded, left_out)
    said["encoder"] = PACKAGE if uses_encoder else None
    log.info("searches matched", **said)
    return table, said


def _said(found: dict[str, Matched], encoded: dict[str, tuple[Part, ...]], left_out: int) -> dict[str, object]:
    by_encoder = sum(bool(parts) for parts in encoded.values())
    by_words = sum(bool(matched.parts) and not encoded.get(query) for query, matched in found.items())
    nothing = len(found) - by_encoder - by_words
    return {"by_words": by_words, "by_encoder": by_encoder, "without_match": nothing, "too_rare": left_out}


def _queries(source: Source) -> tuple[list[str], int]:
    """The distinct searches before `as_of`, the most frequent first, and how many more there are."""
    events = source.table("events")
    if "query" not in events.columns:
        return [], 0
    import ibis

    asked = events.filter(events.kind == "search", events["query"].notnull())
    asked = asked.filter(asked.event_time < ibis.literal(source.as_of, TIME_TYPE))
    counted = asked.group_by("query").agg(count=asked.count())
    total = int(counted.count().to_pyarrow().as_py())
    chosen = counted.order_by(counted["count"].desc(), "query").limit(MOST_SEARCHES).to_pyarrow()
    return chosen["query"].to_pylist(), total - len(chosen)


def _nearest(source: Source, queries: list[str], cache: Path | None) -> dict[str, tuple[Part, ...]]:
    """The values whose names are nearest to each search."""
    vectors_QD = text_vectors(queries, cache=cache)
    parts: dict[str, list[Part]] = {query: [] for query in queries}
    for axis, name in enumerate(AXES):
        names = source.taxonomy.names if axis == 0 else source.taxonomy.axis_values[axis]
        # Items that share a name are told apart by nothing that a search says.
        if name not in MEANT or not 2 < len(names) <= MOST_NAMES + 1 or len(set(names)) < len(names):
            continue
        cosine_Qn = vectors_QD @ text_vectors(names[1:], cache=cache).T
        for query, cosine_n in zip(queries, cosine_Qn, strict=True):
            parts[query] += _near(axis, cosine_n.astype(np.float64))
    return {query: tuple(of_query) for query, of_query in parts.items()}


def _near(axis: int, cosine_n: NDArray[np.float64]) -> list[Part]:
    places = np.argsort(-cosine_n, kind="stable")[:NEAREST]
    places = places[cosine_n[places] >= max(NEAR, float(cosine_n[places[0]]) - WITHIN)]
    total = float(cosine_n[places].sum())
    return [
        Part(axis, int(place) + 1, round(STRENGTH_UNIT * float(cosine_n[place]) / total)) for place in places.tolist()
    ]
