"""One look at a home: the newest features against those that the champion was trained on, ages, and what was served."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.moments import moment
from recommender.datasets.tables import Tables, open_tables
from recommender.errors import CorruptFileError, RegistryError
from recommender.matching.catalogue import Catalogue
from recommender.monitoring.ages import age_findings, ages
from recommender.monitoring.columns import ColumnChange, column_change
from recommender.monitoring.distributions import Reference, at_moment, column, feature_names, shift
from recommender.monitoring.findings import FeatureDrift, Finding, Report
from recommender.monitoring.importance import importances
from recommender.monitoring.served import calibration, calibration_findings
from recommender.registry import Registry, bundle
from recommender.settings import MonitoringSettings, Settings
from recommender.storage.home import REFERENCE_FILE
from recommender.storage.manifest import read_manifest

BY_DRAWS = "share of the change of the champion's log-odds when a feature's value is drawn anew from its training"
EVENLY = "the same for each feature, and no drift breaks a limit: the champion reads none of them"
RETRAIN = (
    "If the shop changed, train again: recommender run. If it did not, look at the tables that the feature is from."
)


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
    drift, importance = _drift(reference, users, features, change, registry.bundle(champion), settings.monitoring)
    old = ages(opened, features, settings, now=now)
    served, note = calibration(opened, settings)
    findings = [
        *problems,
        *age_findings(old),
        *calibration_findings(served, settings.monitoring),
        *_drift_findings(drift, settings.monitoring, reads=importance == BY_DRAWS),
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
        importance=importance,
        findings=tuple(sorted(findings, key=lambda finding: not finding.breaks)),  # stable: worst first within both
        drift=tuple(drift),
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


def _drift(
    reference: Reference | None,
    users: pa.Table,
    features: Path,
    change: ColumnChange | None,
    champion: Path,
    limits: MonitoringSettings,
) -> tuple[list[FeatureDrift], str]:
    """Every feature that both have, by importance times drift, and how the importance was measured."""
    if reference is None:
        return [], EVENLY
    names = [name for name in feature_names(users) if name in reference.features]
    if not names:
        return [], EVENLY
    found = dict.fromkeys(names, 0.0)
    if change is None or not change.vanished:
        trained_on = {name: reference.features[name] for name in names}
        found = importances(bundle.load(champion), users, Catalogue.load(features / "catalogue"), trained_on)
    reads = any(found.values())
    drift = []
    for name in names:
        # Bonferroni: the false alarm is that of all features together.
        moved = shift(reference.features[name], column(users, name), false_alarm=limits.false_alarm / len(names))
        drift.append(
            FeatureDrift(
                name=name,
                importance=found[name] if reads else 1 / len(names),
                psi=moved.psi,
                psi_by_chance=moved.psi_by_chance,
                ks=moved.ks,
                ks_p=moved.ks_p,
                missing_before=moved.missing[0],
                missing_now=moved.missing[1],
                missing_rise=moved.missing_rise,
                bins=moved.bins,
            )
        )
    drift.sort(key=lambda one: (-one.weight, -one.psi, one.name))
    return drift, BY_DRAWS if reads else EVENLY


def _drift_findings(drift: list[FeatureDrift], limits: MonitoringSettings, *, reads: bool) -> list[Finding]:
    """Features that moved beyond chance and beyond the limit, or that are missing more often.

    They break the limit where they matter: the champion reads features, and enough of its importance is theirs.
    """
    findings = []
    for one in drift:
        matters = reads and one.importance >= limits.min_importance
        weight = f"it has {one.importance:.1%} of all importance"
        if one.missing_rise > limits.max_missing_increase:
            findings.append(
                Finding(
                    kind="missing",
                    about=f"missing values of {one.name}",
                    breaks=matters,
                    words=(
                        f"{one.name}: missing for {one.missing_now:.1%} of the users, and for "
                        f"{one.missing_before:.1%} when the champion was trained; monitoring.max_missing_increase is "
                        f"{limits.max_missing_increase:g}, and {weight}."
                    ),
                    remedy="Look whether the table that it is made from is still complete (recommender validate).",
                    measured=one.missing_rise,
                    limit=limits.max_missing_increase,
                )
            )
        if one.psi > limits.max_psi and one.moved:
            findings.append(
                Finding(
                    kind="drift",
                    about=f"drift of {one.name}",
                    breaks=matters,
                    words=(
                        f"{one.name}: population stability index {one.psi:.2f} (by chance at most "
                        f"{one.psi_by_chance:.2f}), KS {one.ks:.2f}; monitoring.max_psi is {limits.max_psi:g}, and "
                        f"{weight}."
                    ),
                    remedy=RETRAIN,
                    measured=one.psi,
                    limit=limits.max_psi,
                )
            )
    return findings
