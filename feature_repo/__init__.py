"""The feature store: Feast over DuckDB (offline) and SQLite, Redis or PostgreSQL (online).

Serving reads what training read.

materialise(features, settings)                          definitions, offline Parquet, online values, catalogue
training_frame(features, settings)                       users' features as they were at each decision
build_training_set(features, tables, settings, output)   the same, joined with pairs and labels
"""

from feature_repo.quick_import import without_torch, without_type_checks

without_type_checks()  # both before any module here imports Feast
without_torch()

from feature_repo.materialisation import materialise  # noqa: E402
from feature_repo.training import build_training_set, training_frame  # noqa: E402

__all__ = ["build_training_set", "materialise", "training_frame"]
