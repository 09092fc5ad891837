"""Cost of the features: building them, reading them at a moment, and writing and reading the feature store."""

from pathlib import Path

REPORT = Path("reports/bench/features.json")
"""Rows about features, portraits and events."""
