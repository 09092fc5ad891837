"""Evaluates challenger, champion and baselines on the same later campaigns and the same users.

Each ranker scores a period with the newest of its fits that has seen nothing of it. The gate period reads the labels
that were known at its end. The final test reads them to the end of the log, and nothing is chosen by it.

Shapes: N pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from recommender.datasets.periods import Periods, from_microseconds
from recommender.engine.context import DEFAULT_SEED
from recommender.errors import RegistryError
from recommender.evaluation.campaign_gains import PooledGain, pool
from recommender.evaluation.curves import calibration_bins, precision_recall_points, roc_points
from recommender.evaluation.document import (
    FILE,
    Candidate,
    Estimate,
    Evaluation,
    ListResult,
    PeriodResult,
    RankerResult,
)
from recommender.evaluation.heads import head_quality
from recommender.evaluation.intervals import Bootstrap, Resampled, resample
from recommender.evaluation.judgement import Judgement, read_judgement
from recommender.evaluation.latency import measure
from recommender.evaluation.list_results import list_result
from recommender.evaluation.metrics import METRICS, ScoredPairs, ece_floor
from recommender.evaluation.pairs import PairSet, PeriodPairs, column, final_test_pairs, gate_pairs, times
from recommender.evaluation.shown_lists import PeriodLists
from recommender.evaluation.slices import CLOSED, OPEN, WINDOW, slices
from recommender.evaluation.thresholds import base_rate, figures_at, resolved
from recommender.matching.examples import Labels
from recommender.matching.rerank import BY_SCORE, Rerank
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.models.campaign.ranker import Scores
from recommender.registry import bundle
from recommender.registry.candidates import boundaries, fit_before, lineage, version_of
from recommender.settings import Settings
from recommender.storage.manifest import whole_folder, write_manifest, write_text

REQUESTS = 20
"""Users whose requests are timed. Chosen by hand: users differ in the length of their history, the rest is the same."""


def evaluate(
    training_set: Path,
    candidates: Mapping[str, Path],
    *,
    challenger: str,
    champion: str,
    judgement: Path | None,
    settings: Settings,
    output: Path,
) -> Evaluation:
    """Evaluate all candidates, write `evaluation.json` into the folder `output`, and return its content.

    Args:
        training_set: folder of the training set.
        candidates: name -> folder with `fits/`.
        challenger: name of the challenger among them.
        champion: name of the champion among them.
        judgement: TOML file with the rules of the gate. None: see `judgement_file`.
        settings: of the run; its seed draws the bootstrap.
        output: the folder to write.

    Raises:
        PeriodError: the gate period has no pairs.
        LabelError: all its pairs have the same outcome.
        RegistryError: challenger or champion is not among the candidates, or one has no fit that ends before the gate
            period.
        BundleError: the training set lacks features that a candidate was trained on.
        CorruptFileError: a bundle or the training set is damaged.
        SettingsError: the judgement file is not valid.
    """
    from recommender.features.training_set import TrainingSet

    data = TrainingSet.open(training_set)
    evaluation = compare(
        data,
        candidates,
        challenger=challenger,
        champion=champion,
        rules=read_judgement(judgement),
        seed=settings.training.seed,
        rerank=Rerank.of(settings.serving),
    )
    with whole_folder(output) as folder:
        write_text(folder / FILE, evaluation.model_dump_json(indent=1))
        write_manifest(folder, kind="evaluation", schema_version=evaluation.schema_version)
    return evaluation


def compare(
    data: PairSet,
    candidates: Mapping[str, Path],
    *,
    challenger: str,
    champion: str,
    rules: Judgement,
    seed: int = DEFAULT_SEED,
    rerank: Rerank = BY_SCORE,
) -> Evaluation:
    """Evaluate like `evaluate`, on pairs in memory and without writing."""
    for name in (challenger, champion):
        if name not in candidates:
            raise RegistryError(f"{name!r} is not among the candidates {', '.join(map(repr, candidates))}")
    periods = _periods(candidates[challenger])
    gate, test = gate_pairs(data, periods), final_test_pairs(data, periods)
    bootstrap = Bootstrap(samples=rules.gate.bootstrap_samples, confidence=rules.gate.confidence, seed=seed)
    comparison = _Comparison(candidates, challenger, champion, rules, bootstrap, data, rerank)
    return Evaluation(
        judgement_sha256=rules.sha256,
        data_hash=str(lineage(candidates[challenger])["data_hash"]),
        first_decision=from_microseconds(int(times(data, "decided_at").min())),
        gate_from=periods.gate_from,
        test_from=periods.test_from,
        as_of=periods.as_of,
        confidence=rules.gate.confidence,
        challenger=challenger,
        champion=champion,
        candidates=_candidates(candidates, data, periods.as_of, timed=(challenger, champion)),
        gate=comparison.on(gate),
        test=None if test is None else comparison.on(test),
    )


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The rankers to compare, and the settings of the comparison."""

    candidates: Mapping[str, Path]
    challenger: str
    champion: str
    rules: Judgement
    bootstrap: Bootstrap
    data: PairSet
    rerank: Rerank

    def on(self, period: PeriodPairs) -> PeriodResult:
        """Score the pairs of a period with every candidate and compute all figures."""
        fits = {name: fit_before(folder, period.starts) for name, folder in self.candidates.items()}
        names = period.examples.feature_names
        loaded = {name: bundle.load(fit, feature_names=names) for name, fit in fits.items()}
        scores = {name: ranker.score(period.examples) for name, ranker in loaded.items()}
        redeemed_N = period.labels.redeemed_N.astype(np.float64)
        scored = {
            name: ScoredPairs(redeemed_N, of.redeem_N.astype(np.float64), period.users_N) for name, of in scores.items()
        }
        resampled = resample(scored, self.bootstrap)
        closed = self._closed(scored, period)
        usual = base_rate(self.data, period.starts)
        at = figures_at(resolved(self.rules.report.thresholds, usual), scored, self.bootstrap)
        return PeriodResult(
            starts=period.starts,
            ends=period.ends,
            labels_known_at=period.known_at,
            num_pairs=len(redeemed_N),
            num_positives=int(redeemed_N.sum()),
            num_users=len(np.unique(period.users_N)),
            num_campaigns=len(np.unique(period.examples.campaigns_N)),
            num_open=int(period.open_N.sum()),
            nobody=at.nobody,
            base_rate=usual,
            rankers={
                name: self._result(name, fits[name], scored[name], scores[name], period.labels, resampled).model_copy(
                    update={
                        "closed": closed.get(name, {}),
                        "calibrator": loaded[name].calibrator,
                        "timing": loaded[name].timing.learnt_from,
                        "at_thresholds": at.rankers[name],
                    }
                )
                for name in fits
            },
            gains={name: Estimate.of(resampled.gain(self.challenger, self.champion, name)) for name in METRICS},
            pooled=self._pooled(period, scored),
            slices=slices(
                scored,
                self._axes(period),
                period.examples.campaigns_N.astype(np.int64),
                challenger=self.challenger,
                champion=self.champion,
                limits=self.rules.guardrails,
                bootstrap=self.bootstrap,
            ),
            lists=self._lists(period, loaded),
        )

    def _lists(self, period: PeriodPairs, loaded: Mapping[str, HorizonRanker]) -> ListResult | None:
        """Judge the lists that serving would give, with the scores that it would give: up to the end of each window."""
        lists = PeriodLists.of(self.data, period)
        if lists is None:
            return None
        return list_result(
            lists,
            {name: ranker.score(lists.lists.examples).redeem_N for name, ranker in loaded.items()},
            challenger=self.challenger,
            champion=self.champion,
            rules=self.rules,
            rerank=self.rerank,
            bootstrap=self.bootstrap,
        )

    def _pooled(self, period: PeriodPairs, scored: Mapping[str, ScoredPairs]) -> dict[str, PooledGain]:
        """Gains over users and campaigns, of the metrics that a gate may decide by."""
        campaigns_N = period.examples.campaigns_N.astype(np.int64)
        names = dict(enumerate(period.examples.catalogue.campaign_ids))
        ours, theirs = scored[self.challenger], scored[self.champion]
        found = {
            metric: pool(ours, theirs, campaigns_N, names, metric, self.bootstrap)
            for metric in ("log_loss", "auc", "ap")
        }
        return {metric: gain for metric, gain in found.items() if gain is not None}

    def _result(
        self, name: str, fit: Path, scored: ScoredPairs, scores: Scores, labels: Labels, resampled: Resampled
    ) -> RankerResult:
        heads = {
            "spend": head_quality(labels.spend_N, scores.spend_N),
            "excess": head_quality(labels.excess_N, scores.excess_N),
        }
        return RankerResult(
            fit=fit.name,
            boundary=boundaries(self.candidates[name])[fit.name],
            metrics={metric: Estimate.of(resampled.estimate(name, metric)) for metric in METRICS},
            ece_floor=ece_floor(scored),
            calibration=calibration_bins(scored),
            roc=roc_points(scored),
            precision_recall=precision_recall_points(scored),
            heads={head: quality for head, quality in heads.items() if quality is not None},
        )

    def _closed(self, scored: Mapping[str, ScoredPairs], period: PeriodPairs) -> dict[str, dict[str, Estimate]]:
        """Compute the metrics on the pairs whose window had closed, by ranker. Empty where that says nothing new."""
        closed_N = ~period.open_N
        positives = int(period.labels.redeemed_N[closed_N].sum())
        if closed_N.all() or positives in (0, int(closed_N.sum())):
            return {}
        parts = {
            name: ScoredPairs(of.redeemed_N[closed_N], of.score_N[closed_N], of.users_N[closed_N])
            for name, of in scored.items()
        }
        resampled = resample(parts, self.bootstrap)
        return {name: {metric: Estimate.of(resampled.estimate(name, metric)) for metric in METRICS} for name in parts}

    def _axes(self, period: PeriodPairs) -> dict[str, Sequence[str | None]]:
        """Return name of an axis -> the value of each pair, by which the period is cut into slices."""
        axes: dict[str, Sequence[str | None]] = {}
        for name in ("campaign_type", *self.data.segments):
            axes[name] = [None if v is None else str(v) for v in column(self.data, name)[period.mask].tolist()]
        if period.open_N.any():
            axes[WINDOW] = np.where(period.open_N, OPEN, CLOSED).tolist()
        return axes


def _periods(challenger: Path) -> Periods:
    """Return the periods between the times at which the challenger was fitted."""
    fitted_at = boundaries(challenger)
    missing = [fit for fit in ("gate", "test", "live") if fit not in fitted_at]
    if missing:
        raise RegistryError(
            f"{challenger / 'lineage.json'}: boundaries lacks {', '.join(missing)}; train the ranker again"
        )
    return Periods(fitted_at["gate"], fitted_at["test"], fitted_at["live"])


def _candidates(
    folders: Mapping[str, Path], data: PairSet, as_of: datetime, *, timed: Sequence[str]
) -> dict[str, Candidate]:
    """Describe all candidates, and measure the latency of those in `timed`."""
    requests, num_campaigns = data.requests(as_of, REQUESTS)
    described = {}
    for name, folder in folders.items():
        facts = lineage(folder)
        live = folder / "fits" / "live"
        size = sum(file.stat().st_size for file in live.rglob("*") if file.is_file())
        latency = measure(bundle.load(live), requests, num_campaigns) if name in timed else None
        described[name] = Candidate(
            version=version_of(folder),
            ranker=str(facts["ranker"]),
            lineage=facts,
            bundle_mib=size / 2**20,
            latency=latency,
        )
    return described
