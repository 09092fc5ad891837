"""What everything that the last build kept depends on, as hashes by what people call it.

Where one of them changed, nothing is taken over.
"""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import recommender
from recommender.datasets.tables import Tables
from recommender.features.shared import Shared
from recommender.features.source import Source
from recommender.storage.manifest import digest


def signature(shared: Shared) -> dict[str, str]:
    """What the rows of all users depend on, by what people call it."""
    weights = shared.look_weights
    looks: list[Any] = [None if one is None else str(one.schema) for one in (weights.searches, weights.texts)]
    if shared.looked:
        looks.append({name: value for name, value in vars(weights.rules).items() if name != "before"})
    found: dict[str, Any] = {
        **signature_of_tables(shared.tables),
        "what looks count": looks,
        "the kinds of events": shared.kinds,
        "attributes of users": {name: vars(one) for name, one in shared.attributes.items()},
        "types of campaigns": dict(shared.types),
        "the largest departments": dict(shared.departments),
    }
    return {name: digest(value) for name, value in found.items()}


def signature_of_tables(tables: Tables) -> dict[str, Any]:
    """What purchase lines depend on beside the files of events, by what people call it."""
    manifest = tables.manifest
    columns = {name: sorted(manifest["columns"].get(name, ())) for name in ("users", "events", "campaigns")}
    return {
        "the program": [_program(), *map(version, ("duckdb", "numpy", "pyarrow"))],
        "the tables' columns": [columns, "event_time_has_hours" in manifest, tables.event_time_has_hours],
        "time zone or currency": [tables.time_zone, tables.currency],
    }


@cache
def _program() -> str:
    """Hash of the code that computes features. `code_identity` would leave comments out, but takes a CPU second."""
    root = Path(recommender.__file__).parent
    paths = sorted(path for package in ("features", "matching", "datasets") for path in (root / package).rglob("*.py"))
    return digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])


def axes(source: Source, items: int) -> str:
    """Hash of the place in the taxonomy of the first `items` items."""
    return hashlib.sha256(np.ascontiguousarray(source.taxonomy.axes_VA[:items]).tobytes()).hexdigest()
