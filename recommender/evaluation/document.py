"""The result of an evaluation as a versioned JSON document, `evaluation.json`, which the gate and the reports read."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError
from recommender.evaluation import intervals
from recommender.evaluation.campaign_gains import OverCampaigns, PooledGain
from recommender.evaluation.metrics import Floats
from recommender.models.campaign.calibration import Calibrator
from recommender.storage.manifest import read_manifest

SCHEMA_VERSION = 2
"""Raise it when a field changes its meaning or goes."""
FILE = "evaluation.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Part):
    """A value with its user-clustered interval. None where the pairs leave it undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: intervals.Estimate) -> Self:
        """Replace NaN, which JSON does not have, by None."""
        numbers = (float(v) if math.isfinite(v) else None for v in (estimate.value, estimate.low, estimate.high))
        return cls(**dict(zip(("value", "low", "high"), numbers, strict=True)))

    @classmethod
    def drawn(cls, value: float, drawn_R: Floats, bootstrap: intervals.Bootstrap) -> Self:
        """A value with the interval of its resamples."""
        return cls.of(intervals.Estimate(value, *bootstrap.interval(drawn_R)))


class CalibrationBin(_Part):
    """Pairs with similar scores: mean prediction, and the observed share with its Wilson interval."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


class Head(_Part):
    """Quality of a head for amounts, over the pairs whose amount is known."""

    num_pairs: int
    mae: float
    """Mean absolute error, currency units."""
    mae_of_mean: float
    """Mean absolute error of predicting the mean for every pair."""
    rank_correlation: float | None


class AtThreshold(_Part):
    """What comes of saying "takes part" of every pair whose score is at or above a threshold."""

    rule: str
    """As in the judgement file: `base_rate`, or the number."""
    threshold: float
    """Where pairs of several periods are pooled, the mean of their thresholds over the pairs."""
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    metrics: dict[str, Estimate]
    """accuracy, precision, recall and f1. Precision is None where no score reaches the threshold."""
    accuracy_over_nobody: Estimate
    """Accuracy minus that of saying of nobody that they take part, on the same draws of users."""


class BaseRate(_Part):
    """Share of participations in the pairs that were decided before a period, as known where it begins."""

    value: float
    num_pairs: int
    closed: bool
    """Whether the pairs are those whose window had closed. False: all pairs, where the closed ones lack an outcome."""


class RankerResult(_Part):
    """One ranker in one period."""

    fit: str
    """The fit of the ranker that computed the scores."""
    boundary: datetime
    """Time up to which that fit has seen data."""
    metrics: dict[str, Estimate]
    ece_floor: float
    calibration: list[CalibrationBin]
    roc: list[tuple[float, float, float]]
    """(false positive rate, true positive rate, threshold), all finite."""
    precision_recall: list[tuple[float, float]]
    """(recall, precision)"""
    heads: dict[str, Head]
    closed: dict[str, Estimate] = {}
    """The metrics on the pairs whose window had closed when the labels were read. Empty where the period has no open
    window, or these pairs lack one of the outcomes."""
    at_thresholds: list[AtThreshold] = []
    """Accuracy, precision, recall and F1, in the order of the judgement file's thresholds."""
    calibrator: Calibrator | None = None
    """The calibrator of that fit, with its figures on held-out campaigns."""
    timing: dict[str, str] = {}
    """Campaign type -> what its time to participation was learnt from. Empty: an even spread was assumed."""

    @property
    def excess_ece(self) -> float:
        """Calibration error beyond the one that a calibrated ranker has by chance on as few pairs."""
        return max(0.0, (self.metrics["ece"].value or 0.0) - self.ece_floor)


class Reliability(_Part):
    """Expected against observed take-up of one ranker in a slice."""

    expected: float
    """Sum of the scores: participations to expect."""
    ratio: Estimate
    """Participations observed over expected, with an interval over users alone."""
    over_campaigns: OverCampaigns | None
    """The same ratio over users and campaigns. None where no campaign of the slice says anything about it."""
    excess_ece: float | None
    """Calibration error beyond the one that a calibrated ranker has by chance on as few pairs."""


class SliceResult(_Part):
    """A slice of a period's pairs."""

    axis: str
    value: str
    num_pairs: int
    num_positives: int
    judged: bool
    """Whether the slice is large enough for the guardrail."""
    auc: dict[str, Estimate]
    """Challenger and champion -> AUC. Empty if the slice is not judged."""
    auc_gain: Estimate | None
    log_loss_gain: Estimate | None
    mean_score: dict[str, float]
    """Ranker -> mean probability. Compared with the observed share it shows calibration in the slice."""
    lift: dict[str, float | None]
    """Ranker -> participation rate among the slice's best-scored tenth, divided by the slice's own."""
    num_campaigns: int = 0
    reliability: dict[str, Reliability] = {}
    """Challenger and champion -> expected against observed take-up. Empty if the slice is not judged."""
    expected_difference: OverCampaigns | None = None
    """Challenger's expected take-up minus the champion's, as a share of their mean, over users and campaigns."""


class ListAxis(_Part):
    """Gaps between the judged shopper groups of one axis. Challenger and champion -> gap."""

    axis: str
    opportunity_gap: dict[str, Estimate]
    exposure_gap: dict[str, Estimate]


class ListGroup(_Part):
    """A group of shoppers, and the share of their later participations that the top of the lists catches."""

    axis: str
    value: str
    num_lists: int
    num_participations: int
    judged: bool
    """Whether the group is large enough to be compared with others."""
    caught: dict[str, Estimate]
    """Challenger and champion -> share. Empty if the group is not judged."""


class ListResult(_Part):
    """What the lists of all rankers are like beyond accuracy, see `evaluation.list_metrics`."""

    cut: int
    """Campaigns of each list that are judged."""
    top: int
    """Places that catch a participation."""
    num_items: int
    """Items of each campaign."""
    rerank: str
    trade_off: float
    num_lists: int
    """Users, each with one list."""
    num_campaigns: int
    """Campaigns that could be shown."""
    num_participations: int
    """Later participations in campaigns that could be shown."""
    rankers: dict[str, dict[str, Estimate]]
    """Ranker -> metric -> value."""
    differences: dict[str, Estimate]
    """Metric -> challenger minus champion on the same draws of users."""
    axes: list[ListAxis]
    groups: list[ListGroup]


class PeriodResult(_Part):
    """All rankers on the same pairs. Gains are challenger minus champion, with the sign such that more is better."""

    starts: datetime
    ends: datetime
    labels_known_at: datetime | None
    """Reading date: participations before it count, in the labels and in the scores. None stands for the end of the
    log."""
    num_pairs: int
    num_positives: int
    num_users: int
    num_campaigns: int
    num_open: int
    """Pairs whose window was still open when the labels were read."""
    nobody: Estimate | None = None
    """Accuracy of saying of nobody that they take part, which every ranker's accuracy is to be compared with."""
    base_rate: BaseRate | None = None
    """None where all pairs before the period have the same outcome."""
    rankers: dict[str, RankerResult]
    gains: dict[str, Estimate]
    """Metric -> gain over all pairs, with an interval over users alone."""
    pooled: dict[str, PooledGain]
    """auc, ap and log_loss -> gain over users and campaigns, where it is defined. The gate decides by one of these."""
    slices: list[SliceResult]
    lists: ListResult | None = None
    """The lists of the period's users. None where the training set kept none for it."""


class Latency(_Part):
    """CPU milliseconds of one thread for building the examples of one user and scoring all live campaigns.

    Percentiles over users, each user's request at its least disturbed.
    """

    p50_ms: float
    p95_ms: float
    num_campaigns: int
    num_rounds: int
    """How often every request was timed."""
    stable: bool
    """Whether further rounds no longer lowered the result. If not, other programs disturbed all rounds."""


class Candidate(_Part):
    """An evaluated ranker."""

    version: str
    ranker: str
    lineage: dict[str, Any]
    bundle_mib: float
    latency: Latency | None = None


class Evaluation(_Part):
    """The whole document. `test` is reported, and nothing is chosen by it."""

    schema_version: int = SCHEMA_VERSION
    judgement_sha256: str
    data_hash: str
    first_decision: datetime
    """Time of the earliest pair that any fit may learn from."""
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
        """Read the evaluation in `folder` (or the JSON file itself) after verifying its SHA-256.

        Raises:
            CorruptFileError: the file is missing, altered, or of another schema version.
        """
        path = folder / FILE if folder.is_dir() else folder
        read_manifest(path.parent)
        try:
            evaluation = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise CorruptFileError(
                f"{path}: this release cannot read the evaluation ({error}); evaluate again"
            ) from None
        if evaluation.schema_version != SCHEMA_VERSION:
            raise CorruptFileError(
                f"{path}: schema_version must be {SCHEMA_VERSION} (got {evaluation.schema_version}); evaluate again"
            )
        return evaluation
