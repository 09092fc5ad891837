"""Compares the columns of a feature set with those that the serving versions were trained on."""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow.parquet as pq

from recommender import logs
from recommender.datasets.checks.schema import aligned
from recommender.errors import FeatureStoreError
from recommender.matching.affinity import cross_names
from recommender.matching.catalogue import Catalogue
from recommender.monitoring.reference import portrait_columns
from recommender.registry import Registry
from recommender.registry.candidates import features as trained_features
from recommender.settings import Settings
from recommender.storage.home import FEATURES_SCHEMA_FILE

log = logs.get(__name__)
SHOWN = 8
"""Columns of each kind that a sentence names. By hand: enough to recognise the cause."""


@dataclass(frozen=True, kw_only=True)
class ColumnChange:
    """How the columns of a feature set differ from those of a version."""

    version: str
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]

    def __str__(self) -> str:
        parts = [
            f"{what}: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
            for what, names in (("appeared", self.appeared), ("vanished", self.vanished))
            if names
        ]
        return "; ".join(parts) or "the same columns in another order"


def column_change(features: Path, version: str, registry: Registry) -> ColumnChange | None:
    """How a feature set differs from what a version was trained on. None: not at all, or it reads no features.

    Raises:
        CorruptFileError: the version or the catalogue is damaged.
    """
    trained = trained_features(registry.path(version))
    if not trained:
        return None
    portrait = portrait_columns(pq.read_schema(features / "users.parquet").names)
    now = (*portrait, *Catalogue.load(features / "catalogue").campaign_feature_names, *cross_names(tuple(portrait)))
    if now == trained:
        return None
    return ColumnChange(
        version=version,
        appeared=tuple(name for name in now if name not in set(trained)),
        vanished=tuple(name for name in trained if name not in set(now)),
    )


def require_columns(features: Path, settings: Settings) -> None:
    """Refuse a feature set without columns that champion or canary read: they would fail at the next request.

    Columns that they do not know harm nobody: a ranker scores without them (`models.campaign.schema`). They are logged.

    Raises:
        FeatureStoreError: names the columns that vanished, and those that appeared.
        CorruptFileError: a version or the catalogue is damaged.
    """
    registry = Registry(settings.home)
    canary = registry.canary()
    for version in (registry.champion(), canary.version if canary else None):
        change = column_change(features, version, registry) if version is not None else None
        if change is not None and change.vanished and not settings.monitoring.accept_vanished_columns:
            raise FeatureStoreError(
                f"the features lack columns that {change.version}, which serves, was trained on. "
                f"{change}. Nothing was materialised: bring the columns back in the source or its mapping. If "
                "they are gone for good, train once with monitoring.accept_vanished_columns = true\n"
                f"{_in_a_table(change, features)}"
            )
        if change is not None:
            log.warning("the features have other columns than the serving version", **asdict(change))


def _in_a_table(change: ColumnChange, features: Path) -> str:
    """Each feature that vanished or appeared, and what to do: which part of the source it needs, if that is missing."""
    absent: dict[str, list[str]] = {}
    if (features / FEATURES_SCHEMA_FILE).is_file():
        schema = json.loads((features / FEATURES_SCHEMA_FILE).read_text(encoding="utf-8"))
        absent = schema.get("absent", {})

    def remedy(name: str) -> str:
        parts = [part for part, lost in absent.items() if any(fnmatchcase(name, pattern) for pattern in lost)]
        return f"bring back {', '.join(parts)}" if parts else "bring back the column that it is made from"

    rows = [("feature", change.version, "now", "what to do")]
    rows += [(name, "a feature", "–", remedy(name)) for name in change.vanished]
    rows += [(name, "–", "a feature", "nothing: it is used after the next training") for name in change.appeared]
    return aligned(rows)
