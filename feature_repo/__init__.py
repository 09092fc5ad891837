"""The feature store: Feast over DuckDB (offline) and SQLite, Redis or PostgreSQL (online).

Serving reads what training read.

materialise(features, settings)                          definitions, offline Parquet, online values, catalogue
training_frame(features, settings)                       users' features as they were at each decision
build_training_set(features, tables, settings, output)   the same, joined with pairs and labels
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from feature_repo.quick_import import without_torch, without_type_checks

if TYPE_CHECKING:
    from feature_repo.materialisation import materialise
    from feature_repo.training import build_training_set, training_frame

__all__ = ["build_training_set", "materialise", "training_frame"]

without_type_checks()  # both before any module here imports Feast
without_torch()
DEFINED_IN = {
    "materialise": "feature_repo.materialisation",
    "build_training_set": "feature_repo.training",
    "training_frame": "feature_repo.training",
}


def __getattr__(name: str) -> Any:
    """Import a function with its first use. What only asks which store there is then imports no Feast."""
    if name not in DEFINED_IN:
        raise AttributeError(f"module 'feature_repo' has no attribute {name!r}")
    return getattr(import_module(DEFINED_IN[name]), name)
