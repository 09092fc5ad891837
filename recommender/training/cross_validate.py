"""Cross-validation of campaign rankers by rolling origin.

Each ranker is fitted at several moments before the gate period, on what was known then. The campaigns that start until
the next origin judge the fit, with the participations known at that moment. So the figures show how much they move from
one season to the next. The final test is never read.

The gate period is read only when asked: a challenger that was chosen by the gate's campaigns would be judged by what it
was chosen for, and the gate's ledger of attempts would not know. Every reading is a line of the log of readings.

Shapes: P pairs of an origin · N pairs of all origins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recommender.engine.context import FitContext
from recommender.errors import LabelError, PeriodError, SettingsError
from recommender.evaluation.campaign_gains import pool
from recommender.evaluation.document import AtThreshold, BaseRate, Estimate
from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.judgement import Judgement
from recommender.evaluation.metrics import Floats, ScoredPairs, ece_floor
from recommender.evaluation.pairs import PeriodPairs, column, pairs_between
from recommender.evaluation.readings import log_cross_validation
from recommender.evaluation.thresholds import base_rate, figures_at, resolved
from recommender.models.campaign import ranker_class
from recommender.settings import Settings
from recommender.training.origins import End, spans_before
from recommender.training.train import boundaries, fit_at

if TYPE_CHECKING:
    from recommender.features.training_set import TrainingSet

METRICS = ("auc", "ap", "log_loss", "ece")
"""The metrics that tell rankers apart on this task."""
POOLED = ("log_loss", "auc", "ap")
"""Metrics whose gain has an interval over users and campaigns."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RankerFigures(_Part):
    """One ranker on the pairs of an origin, or of all origins."""

    metrics: dict[str, Estimate]
    """With intervals over users."""
    ece_floor: float
    at_thresholds: list[AtThreshold]


class Judged(_Part):
    """All rankers on the same pairs."""

    num_pairs: int
    num_positives: int
    num_users: int
    num_campaigns: int
    num_open: int
    """Pairs whose window was still open when participations were read."""
    nobody: Estimate
    """Accuracy of saying of nobody that they take part."""
    rankers: dict[str, RankerFigures]


class OriginResult(Judged):
    """One origin."""

    starts: datetime
    """The fits have seen nothing from here on."""
    ends: datetime
    """Campaigns that start before it judge, with the participations known at it."""
    num_learnt_from: int
    """Pairs that were decided before the origin."""
    base_rate: BaseRate | None


class LeftOut(_Part):
    """An origin that cannot judge, and why."""

    starts: datetime
    ends: datetime
    reason: str


class Gain(Estimate):
    """Gain over the first ranker, over users and campaigns. No interval with fewer than two campaigns."""

    num_campaigns: int


class CrossValidation(_Part):
    """The whole result."""

    schema_version: int = 2
    data_hash: str
    judgement_sha256: str
    gate_from: datetime
    test_from: datetime
    through_gate: bool
    """Whether campaigns of the gate period judge too, up to `test_from`. Otherwise the last origin ends at
    `gate_from`."""
    confidence: float
    bootstrap_samples: int
    seed: int
    hyperparameters: dict[str, dict[str, Any]]
    """Ranker -> what the settings say. Empty: its defaults."""
    origins: list[OriginResult]
    left_out: list[LeftOut]
    pooled: Judged
    """All pairs of all origins together, each with the score and the threshold of its own origin."""
    gains: dict[str, dict[str, Gain]]
    """Ranker -> metric -> gain over the first ranker; more is better."""


@dataclass(frozen=True, eq=False)
class _Scored:
    """An origin's pairs with the scores of every ranker."""

    period: PeriodPairs
    user_ids_P: NDArray[np.object_]
    scores: Mapping[str, Floats]
    usual: BaseRate | None


def cross_validate(
    training_set: Path,
    rankers: Sequence[str],
    settings: Settings,
    rules: Judgement,
    *,
    count: int | None = None,
    origins: Sequence[str] = (),
    through_gate: bool = False,
    readings: Path | None = None,
    fitting: Callable[[str, int, int], None] | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> CrossValidation:
    """Fit every ranker at every origin, judge it until the next one, and pool all origins.

    Args:
        training_set: Folder of the training set.
        rankers: Names of campaign rankers. The others are compared with the first.
        settings: Boundaries, seed, device and hyperparameters.
        rules: Thresholds, confidence and the number of bootstrap samples.
        count: Number of origins. The pairs before the end are divided at starts of campaigns into one part more, of
            about equal size. The first part is only trained on. None: see `origins.most_origins_before`.
        origins: Dates or times of the origins in the shops' time zone, instead of `count`.
        through_gate: Judge by campaigns of the gate period too, up to the final test. Otherwise up to the gate period.
        readings: The log that gets a line about it. None: nothing is written.
        fitting: Called before each fit with what is fitted, its number from 0, and the number of all fits.
        progress: Called with facts on the progress of each fit.

    Raises:
        BundleError: There is no such ranker.
        SettingsError: No ranker, an origin that is no date, or a hyperparameter that is not allowed.
        PeriodError: Too few starts of campaigns for so many origins, an origin that is not before the gate period (or
            with `through_gate` the final test), or no origin that can judge.
    """
    from recommender.features.training_set import TrainingSet

    names = list(dict.fromkeys(rankers))
    if not names:
        raise SettingsError("rankers: none is named; name at least one, as in --rankers logistic,rate_rule")
    given = {name: settings.training.rankers.get(name, {}) for name in names}
    configs = {name: ranker_class(name).Config.parse(given[name], owner=name) for name in names}
    data = TrainingSet.open(training_set)
    moments = boundaries(data, settings)
    end = End("the final test", moments["test"]) if through_gate else End("the gate period", moments["gate"])
    spans = spans_before(data, end, count, origins)
    scored: list[_Scored] = []
    left_out: list[LeftOut] = []
    for place, (starts, ends) in enumerate(spans):
        try:
            period = pairs_between(data, starts, ends, name="the origin", remedy="Choose other origins.")
            scores = {}
            with TemporaryDirectory() as kept:
                for number, name in enumerate(names):
                    if fitting is not None:
                        fitting(f"{starts:%Y-%m-%d} {name}", place * len(names) + number, len(spans) * len(names))
                    context = FitContext(
                        seed=settings.training.seed, device=settings.training.device, progress=progress
                    )
                    fitted = fit_at(ranker_class(name), data, starts, configs[name], context, kept=Path(kept))
                    scores[name] = fitted.score(period.examples).redeem_N.astype(np.float64)
        except (PeriodError, LabelError) as error:
            left_out.append(LeftOut(starts=starts, ends=ends, reason=str(error)))
            continue
        user_ids_P = column(data, "user_id")[period.mask]
        scored.append(_Scored(period, user_ids_P, scores, base_rate(data, starts)))
    if not scored:
        reasons = " ".join(one.reason for one in left_out)
        raise PeriodError(f"no origin before {end.name} can judge: {reasons}{end.remedy}")
    if readings is not None:
        log_cross_validation(
            readings,
            data=data.data_hash,
            rankers=given,
            origins=[one.period.starts for one in scored],
            judged_to=scored[-1].period.ends,
            seed=settings.training.seed,
        )
    bootstrap = Bootstrap(
        samples=rules.gate.bootstrap_samples, confidence=rules.gate.confidence, seed=settings.training.seed
    )
    return CrossValidation(
        data_hash=data.data_hash,
        judgement_sha256=rules.sha256,
        gate_from=moments["gate"],
        test_from=moments["test"],
        through_gate=through_gate,
        confidence=bootstrap.confidence,
        bootstrap_samples=bootstrap.samples,
        seed=settings.training.seed,
        hyperparameters=given,
        origins=[_origin(one, data, rules, bootstrap) for one in scored],
        left_out=left_out,
        pooled=_judged(scored, rules, bootstrap),
        gains=_gains(scored, names, data, bootstrap),
    )


def _origin(one: _Scored, data: "TrainingSet", rules: Judgement, bootstrap: Bootstrap) -> OriginResult:
    return OriginResult(
        starts=one.period.starts,
        ends=one.period.ends,
        num_learnt_from=int(data.decided_in(None, one.period.starts).sum()),
        base_rate=one.usual,
        **_judged([one], rules, bootstrap).model_dump(),
    )


def _judged(parts: Sequence[_Scored], rules: Judgement, bootstrap: Bootstrap) -> Judged:
    """Figures of the pairs of one origin or of several together."""
    pairs = _together(parts)
    first = next(iter(pairs.values()))
    resampled = resample(pairs, bootstrap, METRICS)
    at = figures_at(_thresholds(parts, rules), pairs, bootstrap)
    return Judged(
        num_pairs=len(first.redeemed_N),
        num_positives=int(first.redeemed_N.sum()),
        num_users=len(np.unique(first.users_N)),
        num_campaigns=len(np.unique(_campaigns(parts))),
        num_open=sum(int(one.period.open_N.sum()) for one in parts),
        nobody=at.nobody,
        rankers={
            name: RankerFigures(
                metrics={metric: Estimate.of(resampled.estimate(name, metric)) for metric in METRICS},
                ece_floor=ece_floor(of),
                at_thresholds=at.rankers[name],
            )
            for name, of in pairs.items()
        },
    )


def _together(parts: Sequence[_Scored]) -> dict[str, ScoredPairs]:
    """Each ranker's scores of all pairs. A user has one number over all origins."""
    redeemed_N = np.concatenate([one.period.labels.redeemed_N for one in parts]).astype(np.float64)
    users_N = np.unique(np.concatenate([one.user_ids_P for one in parts]), return_inverse=True)[1].astype(np.int64)
    return {
        name: ScoredPairs(redeemed_N, np.concatenate([one.scores[name] for one in parts]), users_N)
        for name in parts[0].scores
    }


def _campaigns(parts: Sequence[_Scored]) -> NDArray[np.int64]:
    return np.concatenate([one.period.examples.campaigns_N for one in parts]).astype(np.int64)


def _thresholds(parts: Sequence[_Scored], rules: Judgement) -> dict[str, float | Floats]:
    """Rule -> threshold of each pair, that of its own origin. A rule that an origin lacks is left out."""
    found = [resolved(rules.report.thresholds, one.usual) for one in parts]
    sizes = [len(one.period.labels.redeemed_N) for one in parts]
    shared = [rule for rule in found[0] if all(rule in of for of in found)]
    return {rule: np.repeat([of[rule] for of in found], sizes) for rule in shared}


def _gains(
    parts: Sequence[_Scored], names: Sequence[str], data: "TrainingSet", bootstrap: Bootstrap
) -> dict[str, dict[str, Gain]]:
    pairs, campaigns_N = _together(parts), _campaigns(parts)
    campaign_ids = dict(enumerate(data.catalogue.campaign_ids))
    gains: dict[str, dict[str, Gain]] = {}
    for name in names[1:]:
        gains[name] = {}
        for metric in POOLED:
            found = pool(pairs[name], pairs[names[0]], campaigns_N, campaign_ids, metric, bootstrap)
            if found is not None:
                low, high = found.interval(bootstrap.confidence) or (None, None)
                gains[name][metric] = Gain(value=found.value, low=low, high=high, num_campaigns=len(found.campaigns))
    return gains
