"""One look at a home: the newest features against those that the champion was trained on, ages, and what was served."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from recommender.datasets.moments import moment
from recommender.datasets.tables import Tables, open_tables
from recommender.errors import CorruptFileError, RegistryError
from recommender.monitoring.ages import age_findings, ages
from recommender.monitoring.columns import ColumnChange, column_change
from recommender.monitoring.drift import drift, drift_findings, not_compared
from recommender.monitoring.findings import Finding, Report
from recommender.monitoring.reference import Reference, at_moment
from recommender.monitoring.served import calibration, calibration_findings
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import REFERENCE_FILE
from recommender.storage.manifest import read_manifest


def monitor(features: Path, tables: Path, settings: Settings, *, run: str = "", now: datetime | None = None) -> Report:
    """Compare a feature set and its tables with what the champion was trained on and with the settings' limits.

    Args:
        features: folder of the newest feature set.
        tables: folder of the tables that it was built from.
        settings: the limits, and the home with registry, feature store and decision log.
        run: the pipeline run, for the report.
        now: by which ages count. None: `time.as_of` of the settings, or else the clock.

    Raises:
        RegistryError: there is no champion yet.
        CorruptFileError: the features, the tables or the champion are damaged.
    """
    manifest, opened, registry = read_manifest(features), open_tables(tables), Registry(settings.home)
    champion = require_champion(registry)
    as_of = datetime.fromisoformat(str(manifest["as_of"]))
    now = now or _now(settings, opened)
    users = at_moment(pq.read_table(features / "users.parquet"), as_of)
    change = column_change(features, champion, registry)
    problems, reference = _reference(change, champion, registry)
    moved = drift(reference, users, features, as_of, change, registry.bundle(champion), settings.monitoring)
    old = ages(opened, features, settings, now=now)
    served, note = calibration(opened, settings)
    findings = [
        *problems,
        *not_compared(reference),
        *age_findings(old),
        *calibration_findings(served, settings.monitoring),
        *drift_findings(moved, settings.monitoring),
    ]
    return Report(
        run=run,
        now=now,
        data_hash=opened.data_hash,
        champion=champion,
        reference_as_of=reference.as_of if reference else None,
        features_as_of=as_of,
        num_users_before=reference.num_users if reference else 0,
        num_users_now=users.num_rows,
        importance=moved.importance,
        findings=tuple(sorted(findings, key=lambda finding: not finding.breaks)),  # stable: worst first within both
        drift=moved.features,
        campaigns_note=moved.campaigns,
        ages=tuple(old),
        served=tuple(served),
        served_note=note,
    )


def require_champion(registry: Registry) -> str:
    """The version that serves.

    Raises:
        RegistryError: there is none yet.
    """
    champion = registry.champion()
    if champion is None:
        raise RegistryError(
            f"{registry.folder} has no champion yet, so nothing is watched; start with: recommender run"
        )
    return champion


def _now(settings: Settings, tables: Tables) -> datetime:
    fixed = settings.time.as_of
    return datetime.now(UTC) if fixed is None else moment(fixed, tables.time_zone)


def _reference(
    change: ColumnChange | None, champion: str, registry: Registry
) -> tuple[list[Finding], Reference | None]:
    """The champion's reference, and what keeps the newest features from being compared with it."""
    findings = []
    if change is not None:
        findings.append(
            Finding(
                kind="columns",
                about="columns of the features",
                breaks=bool(change.vanished),
                words=f"the newest features have other columns than {champion} was trained on. {change}.",
                remedy="Bring the columns back in the source or its mapping. Nothing is materialised until then."
                if change.vanished
                else "The champion scores without them. To use them, train again: recommender run.",
            )
        )
    file = registry.path(champion) / REFERENCE_FILE
    try:
        return findings, Reference.read(file)
    except CorruptFileError as error:
        reason = str(error) if file.exists() else f"there is no file {file}"
        findings.append(
            Finding(
                kind="reference",
                about="reference of the champion",
                breaks=False,
                words=f"the champion has no distributions to compare with: {reason}.",
                remedy="A version that this release trains has them: recommender run.",
            )
        )
        return findings, None
