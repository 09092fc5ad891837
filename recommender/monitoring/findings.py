"""What monitoring found, as one document: findings, worst first, and the figures behind them."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError, LimitBroken

Kind = Literal["columns", "reference", "drift", "missing", "age", "calibration"]
Over = Literal["users", "campaigns", "pairs"]
"""What a feature has one value for."""
FORMAT = 1
ROUNDING = 1e-9
"""Equal distances differ by less, after sums in another order."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Part):
    """One thing that a person should know."""

    kind: Kind
    about: str
    """The feature, table, view, campaign type or version."""
    breaks: bool
    """Whether a limit is broken, which fails the run."""
    words: str
    """One sentence with the value and the limit."""
    remedy: str
    """What to do."""
    measured: float | None = None
    limit: float | None = None


class FeatureDrift(_Part):
    """One feature then and now."""

    name: str
    over: Over = "users"
    importance: float
    """Share of all importance, or the same for each feature where the ranker reads none."""
    psi: float
    psi_by_chance: float | None
    """None where whole campaigns are judged, by `ks_by_chance`."""
    ks: float
    ks_p: float
    ks_by_chance: float | None = None
    """What the greatest KS of all features of campaigns, or of pairs, exceeds by chance. None for users."""
    missing_before: float
    missing_now: float
    missing_rise: float
    """Rise of the share of missing values. 0 where chance explains it."""
    bins: tuple[tuple[str, float, float], ...]
    """Label, share before and share now."""

    @property
    def moved(self) -> bool:
        """Whether chance alone does not explain the drift."""
        if self.ks_by_chance is not None:
            return self.ks > self.ks_by_chance + ROUNDING
        return self.psi_by_chance is not None and self.psi > self.psi_by_chance

    @property
    def weight(self) -> float:
        """Importance times drift: the order of the page. 0 where chance explains the drift."""
        return self.importance * self.psi if self.moved else 0.0


class Age(_Part):
    """How old a table or view is."""

    name: str
    newest: datetime | None
    """Time of its newest row. None: the source has no such table, or nothing was written yet."""
    hours: float | None
    promise_hours: float | None


class Served(_Part):
    """Served probabilities against what came, for one campaign type or all."""

    campaign_type: str
    """Empty: all types together."""
    pairs: int
    campaigns: int
    expected: float
    observed: int
    ratio: float | None
    """Observed over expected, pooled over campaigns."""
    low: float | None
    high: float | None
    log_loss: float
    judged: bool
    """Whether there are enough participations and campaigns to say anything."""


class Report(_Part):
    """Everything that one look at a home found."""

    format: int = FORMAT
    run: str
    """The pipeline run."""
    now: datetime
    data_hash: str
    champion: str
    reference_as_of: datetime | None
    features_as_of: datetime
    num_users_before: int
    num_users_now: int
    importance: str
    """How the importance was measured, in words."""
    findings: tuple[Finding, ...]
    """Broken limits first, then by importance times drift."""
    drift: tuple[FeatureDrift, ...]
    campaigns_note: str = ""
    """How many campaigns were compared, and whether they are too few."""
    ages: tuple[Age, ...]
    served: tuple[Served, ...]
    served_note: str
    """Why nothing is said about what was served. Empty where something is."""

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that break a limit."""
        return tuple(finding for finding in self.findings if finding.breaks)

    @classmethod
    def read(cls, file: Path) -> "Report":
        """Read a report.

        Raises:
            CorruptFileError: the file is missing or is no report.
        """
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptFileError(f"{file}: no report of monitoring ({reason}); run recommender monitor") from None


def require_limits(file: Path) -> int:
    """Refuse a report in which a limit is broken, or else return how many findings it has.

    Raises:
        LimitBroken: Names each broken limit with its remedy.
        CorruptFileError: the file is no report.
    """
    report = Report.read(file)
    if report.broken:
        what = "; ".join(finding.about for finding in report.broken)
        details = "\n".join(f"{finding.words} {finding.remedy}" for finding in report.broken)
        raise LimitBroken(f"{len(report.broken)} limits are broken: {what}\n{details}")
    return len(report.findings)
