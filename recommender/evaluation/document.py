"""What an evaluation says, as a versioned JSON document (`evaluation.json`): the gate and every report read nothing else."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError
from recommender.evaluation import intervals
from recommender.storage.manifest import read_manifest

SCHEMA_VERSION = 1
FILE = "evaluation.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Part):
    """A value and its user-clustered interval; None where the pairs do not define it."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: intervals.Estimate) -> Self:
        known = (float(v) if math.isfinite(v) else None for v in (estimate.value, estimate.low, estimate.high))
        return cls(**dict(zip(("value", "low", "high"), known, strict=True)))


class CalibrationBin(_Part):
    """Pairs of similar score: mean prediction, observed share with its Wilson interval."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


class Head(_Part):
    """A head for amounts, where the amount is known. `mae_of_mean`: the error of saying the mean to everyone."""

    num_pairs: int
    mae: float
    mae_of_mean: float
    rank_correlation: float | None


class RankerResult(_Part):
    """One ranker in one period. `fit`: which of its fits scored; `boundary`: the moment up to which that has seen the world."""

    fit: str
    boundary: datetime
    metrics: dict[str, Estimate]
    ece_floor: float
    calibration: list[CalibrationBin]
    roc: list[tuple[float, float, float]]
    """(false positive rate, true positive rate, threshold), all finite."""
    precision_recall: list[tuple[float, float]]
    """(recall, precision)"""
    heads: dict[str, Head]

    @property
    def excess_ece(self) -> float:
        """Calibration error beyond what chance explains on so few pairs."""
        return max(0.0, (self.metrics["ece"].value or 0.0) - self.ece_floor)


class SliceResult(_Part):
    """A part of a period's pairs. `judged`: large enough for the guardrail."""

    axis: str
    value: str
    num_pairs: int
    num_positives: int
    judged: bool
    auc: dict[str, Estimate]
    """{ranker: …} for challenger and champion; empty when not judged."""
    auc_gain: Estimate | None
    log_loss_gain: Estimate | None
    mean_score: dict[str, float]
    """{ranker: mean probability}: beside the observed share it shows calibration in the slice."""
    lift: dict[str, float | None]
    """{ranker: participation among the slice's best-scored tenth over the slice's own}."""


class PeriodResult(_Part):
    """All rankers on the same pairs. Gains are challenger minus champion, turned so that more is better."""

    starts: datetime
    ends: datetime
    labels_known_at: datetime | None
    """None: to the end of the log."""
    num_pairs: int
    num_positives: int
    num_users: int
    num_campaigns: int
    num_open: int
    """Pairs whose window was still open when the labels were read."""
    rankers: dict[str, RankerResult]
    gains: dict[str, Estimate]
    slices: list[SliceResult]


class Latency(_Part):
    """Milliseconds to build the examples of one user and score all live campaigns, in process."""

    p50_ms: float
    p95_ms: float
    num_campaigns: int


class Candidate(_Part):
    """A ranker that was measured."""

    version: str
    ranker: str
    lineage: dict[str, Any]
    bundle_mib: float
    latency: Latency | None = None


class Evaluation(_Part):
    """The whole document. `test` is reported and never used for a choice."""

    schema_version: int = SCHEMA_VERSION
    judgement_sha256: str
    data_hash: str
    first_decision: datetime
    """The earliest pair that any fit may learn from."""
    gate_from: datetime
    test_from: datetime
    as_of: datetime
    confidence: float
    challenger: str
    champion: str
    candidates: dict[str, Candidate]
    gate: PeriodResult
    test: PeriodResult | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The evaluation in `folder` (or the JSON file itself), after its SHA-256 was checked.

        Raises:
            CorruptFileError: missing, altered, or of another schema version.
        """
        path = folder / FILE if folder.is_dir() else folder
        read_manifest(path.parent)
        try:
            read = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise CorruptFileError(f"{path}: no evaluation of this release ({error}); evaluate again") from None
        if read.schema_version != SCHEMA_VERSION:
            raise CorruptFileError(
                f"{path}: schema version {read.schema_version}, this release reads {SCHEMA_VERSION}; evaluate again"
            )
        return read
