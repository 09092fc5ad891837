"""Challenger, champion and baselines on the same later campaigns and the same users.

Each ranker scores a period with the newest of its fits that has seen nothing of it. The gate period reads the labels that were
known at its end; the final test reads them to the end of the log, and nothing chooses by it.

Shapes: N pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from recommender.datasets.periods import Periods, from_microseconds
from recommender.errors import RegistryError
from recommender.evaluation.curves import calibration_bins, precision_recall_points, roc_points
from recommender.evaluation.document import FILE, Candidate, Estimate, Evaluation, PeriodResult, RankerResult
from recommender.evaluation.heads import head_quality
from recommender.evaluation.intervals import Bootstrap, Resampled, resample
from recommender.evaluation.judgement import Judgement, read_judgement
from recommender.evaluation.latency import measure
from recommender.evaluation.metrics import METRICS, Judged, ece_floor
from recommender.evaluation.pairs import PairSet, PeriodPairs, column, final_test_pairs, gate_pairs, times
from recommender.evaluation.slices import CLOSED, OPEN, WINDOW, slices
from recommender.matching.examples import Labels
from recommender.models.campaign.ranker import Scores
from recommender.registry import bundle
from recommender.registry.candidates import boundaries, fit_before, lineage, version_of
from recommender.settings import Settings
from recommender.storage.manifest import whole_folder, write_manifest, write_text

REQUESTS = 20


def evaluate(
    training_set: Path,
    candidates: Mapping[str, Path],
    *,
    challenger: str,
    champion: str,
    judgement: Path,
    settings: Settings,
    output: Path,
) -> Evaluation:
    """Measure all `candidates` (name -> folder with fits/) and write `output`/evaluation.json; returns its content.

    Raises:
        PeriodError: the gate period has no pairs.
        LabelError: it has participations only, or none.
        RegistryError: a candidate has no fit that ends before the gate period.
        BundleError: a candidate was trained on other features than the training set holds.
        CorruptFileError: a damaged bundle or training set.
        SettingsError: the judgement file is none.
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
    seed: int = 17,
) -> Evaluation:
    """`evaluate` on pairs in memory, writing nothing."""
    for name in (challenger, champion):
        if name not in candidates:
            raise RegistryError(f"{name} is not among the candidates: {', '.join(candidates)}")
    periods = _periods(candidates[challenger])
    gate, test = gate_pairs(data, periods), final_test_pairs(data, periods)
    bootstrap = Bootstrap(samples=rules.gate.bootstrap_samples, confidence=rules.gate.confidence, seed=seed)
    contest = _Contest(candidates, challenger, champion, rules, bootstrap, data)
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
        gate=contest.judge(gate),
        test=None if test is None else contest.judge(test),
    )


@dataclass(frozen=True, eq=False)
class _Contest:
    """Who is measured against whom, and how."""

    candidates: Mapping[str, Path]
    challenger: str
    champion: str
    rules: Judgement
    bootstrap: Bootstrap
    data: PairSet

    def judge(self, period: PeriodPairs) -> PeriodResult:
        fits = {name: fit_before(folder, period.starts) for name, folder in self.candidates.items()}
        known = period.examples.feature_names
        scores = {name: bundle.load(fit, feature_names=known).score(period.examples) for name, fit in fits.items()}
        redeemed_N = period.labels.redeemed_N.astype(np.float64)
        judged = {
            name: Judged(redeemed_N, said.redeem_N.astype(np.float64), period.users_N) for name, said in scores.items()
        }
        drawn = resample(judged, self.bootstrap)
        return PeriodResult(
            starts=period.starts,
            ends=period.ends,
            labels_known_at=period.known_at,
            num_pairs=len(redeemed_N),
            num_positives=int(redeemed_N.sum()),
            num_users=len(np.unique(period.users_N)),
            num_campaigns=len(np.unique(period.examples.campaigns_N)),
            num_open=int(period.open_N.sum()),
            rankers={
                name: self._result(name, fits[name], judged[name], scores[name], period.labels, drawn) for name in fits
            },
            gains={name: Estimate.of(drawn.gain(self.challenger, self.champion, name)) for name in METRICS},
            slices=slices(
                judged,
                self._axes(period),
                challenger=self.challenger,
                champion=self.champion,
                limits=self.rules.guardrails,
                bootstrap=self.bootstrap,
            ),
        )

    def _result(
        self, name: str, fit: Path, judged: Judged, scores: Scores, labels: Labels, drawn: Resampled
    ) -> RankerResult:
        heads = {
            "spend": head_quality(labels.spend_N, scores.spend_N),
            "excess": head_quality(labels.excess_N, scores.excess_N),
        }
        return RankerResult(
            fit=fit.name,
            boundary=boundaries(self.candidates[name])[fit.name],
            metrics={metric: Estimate.of(drawn.estimate(name, metric)) for metric in METRICS},
            ece_floor=ece_floor(judged),
            calibration=calibration_bins(judged),
            roc=roc_points(judged),
            precision_recall=precision_recall_points(judged),
            heads={head: quality for head, quality in heads.items() if quality is not None},
        )

    def _axes(self, period: PeriodPairs) -> dict[str, Sequence[str | None]]:
        axes: dict[str, Sequence[str | None]] = {}
        for name in ("campaign_type", *self.data.segments):
            axes[name] = [None if v is None else str(v) for v in column(self.data, name)[period.mask].tolist()]
        if period.open_N.any():
            axes[WINDOW] = np.where(period.open_N, OPEN, CLOSED).tolist()
        return axes


def _periods(challenger: Path) -> Periods:
    """The moments at which the challenger was fitted: gate, test and live."""
    known = boundaries(challenger)
    missing = [fit for fit in ("gate", "test", "live") if fit not in known]
    if missing:
        raise RegistryError(f"{challenger}: its lineage lacks the boundary of {', '.join(missing)}; train it again")
    return Periods(known["gate"], known["test"], known["live"])


def _candidates(
    folders: Mapping[str, Path], data: PairSet, as_of: datetime, *, timed: Sequence[str]
) -> dict[str, Candidate]:
    requests, num_campaigns = data.requests(as_of, REQUESTS)
    found = {}
    for name, folder in folders.items():
        known = lineage(folder)
        live = folder / "fits" / "live"
        size = sum(file.stat().st_size for file in live.rglob("*") if file.is_file())
        latency = measure(bundle.load(live), requests, num_campaigns) if name in timed else None
        found[name] = Candidate(
            version=version_of(folder),
            ranker=str(known["ranker"]),
            lineage=known,
            bundle_mib=size / 2**20,
            latency=latency,
        )
    return found
