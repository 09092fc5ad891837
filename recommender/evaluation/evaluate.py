"""Challenger, champion and baselines on the same later campaigns and the same users.

Each ranker scores a period with the newest of its fits that has seen nothing of it. The gate period reads the labels that were
known at its end; the final test reads them to the end of the log, and nothing chooses by it.

Shapes: N pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender import bundle
from recommender.candidates import boundaries, fit_before, lineage, version_of
from recommender.errors import LabelError, PeriodError, RegistryError
from recommender.evaluation.curves import calibration_bins, precision_recall_points, roc_points
from recommender.evaluation.document import FILE, Candidate, Estimate, Evaluation, PeriodResult, RankerResult
from recommender.evaluation.heads import head_quality
from recommender.evaluation.intervals import Bootstrap, Resampled, resample
from recommender.evaluation.judgement import Judgement, read_judgement
from recommender.evaluation.latency import measure
from recommender.evaluation.metrics import METRICS, Judged, ece_floor
from recommender.evaluation.periods import Periods, from_microseconds, microseconds
from recommender.evaluation.slices import CLOSED, OPEN, WINDOW, slices
from recommender.examples import Examples
from recommender.manifest import whole_folder, write_manifest, write_text
from recommender.models.ranker import Labels, Scores
from recommender.settings import Settings


class PairSet(Protocol):
    """The pairs that are judged: what `training.sets.TrainingSet` offers."""

    @property
    def pairs(self) -> pa.Table:
        """user_id, starts_at, ends_at, decided_at, campaign_type and the segments' columns."""

    @property
    def segments(self) -> Sequence[str]:
        """Columns of `pairs` that hold portrait segments."""

    @property
    def log_end(self) -> datetime:
        """Outcomes after it are unknown."""

    def examples(self, mask: NDArray[np.bool_]) -> Examples: ...

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels: ...

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        """Functions that build the examples of one user and all campaigns live at `moment`, for `count` users; how many campaigns."""


END_OF_LOG = datetime(9999, 1, 1, tzinfo=UTC)
REQUESTS = 20


@dataclass(frozen=True, eq=False)
class _Period:
    """The pairs of one period with what came of them; `mask` picks them from the training set."""

    starts: datetime
    ends: datetime
    known_at: datetime | None
    mask: NDArray[np.bool_]
    labels: Labels
    users_N: NDArray[np.int64]
    open_N: NDArray[np.bool_]
    examples: Examples


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
        CorruptFileError: a damaged bundle or training set.
        SettingsError: the judgement file is none.
    """
    from recommender.training.sets import TrainingSet

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
    gate, test = _gate(data, periods), _test(data, periods)
    bootstrap = Bootstrap(samples=rules.gate.bootstrap_samples, confidence=rules.gate.confidence, seed=seed)
    contest = _Contest(candidates, challenger, champion, rules, bootstrap, data)
    return Evaluation(
        judgement_sha256=rules.sha256,
        data_hash=str(lineage(candidates[challenger])["data_hash"]),
        first_decision=from_microseconds(int(_times(data, "decided_at").min())),
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

    def judge(self, period: _Period) -> PeriodResult:
        fits = {name: fit_before(folder, period.starts) for name, folder in self.candidates.items()}
        scores = {name: bundle.load(fit).score(period.examples) for name, fit in fits.items()}
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

    def _axes(self, period: _Period) -> dict[str, Sequence[str | None]]:
        axes: dict[str, Sequence[str | None]] = {}
        for name in ("campaign_type", *self.data.segments):
            axes[name] = [None if v is None else str(v) for v in _column(self.data, name)[period.mask].tolist()]
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


def _gate(data: PairSet, periods: Periods) -> _Period:
    mask = periods.gate_mask(_times(data, "starts_at"), _times(data, "decided_at"))
    if not mask.any():
        raise PeriodError(
            f"the gate period from {periods.gate_from.isoformat()} to {periods.test_from.isoformat()} holds no pair. Change "
            "`time.gate_from` and `time.test_from` in the settings, or leave them out."
        )
    period = _period(data, mask, periods.gate_from, periods.test_from, periods.test_from)
    found, total = int(period.labels.redeemed_N.sum()), len(period.labels.redeemed_N)
    if found in (0, total):
        raise LabelError(
            f"the gate period from {periods.gate_from.isoformat()} to {periods.test_from.isoformat()} has {found} participations "
            f"among {total} pairs; both outcomes are needed. Change `time.gate_from` and `time.test_from`."
        )
    return period


def _test(data: PairSet, periods: Periods) -> _Period | None:
    mask = periods.test_mask(_times(data, "starts_at"), _times(data, "decided_at"))
    return _period(data, mask, periods.test_from, periods.as_of, None) if mask.any() else None


def _period(
    data: PairSet, mask: NDArray[np.bool_], starts: datetime, ends: datetime, known_at: datetime | None
) -> _Period:
    labels = data.labels_at(known_at or END_OF_LOG, mask)
    known_N = np.isfinite(labels.redeemed_N)
    if not known_N.all():
        mask = mask.copy()
        mask[np.flatnonzero(mask)[~known_N]] = False
        labels = data.labels_at(known_at or END_OF_LOG, mask)
    open_N = _times(data, "ends_at")[mask] > microseconds(known_at or data.log_end)
    unknown = np.where(open_N, np.float32("nan"), np.float32(0))
    labels = Labels(labels.redeemed_N, labels.spend_N + unknown, labels.excess_N + unknown)
    users_N = np.unique(_column(data, "user_id")[mask], return_inverse=True)[1].astype(np.int64)
    return _Period(starts, ends, known_at, mask, labels, users_N, open_N, data.examples(mask))


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


def _column(data: PairSet, name: str) -> NDArray[np.object_]:
    return np.array(data.pairs.column(name).to_pylist(), dtype=object)


def _times(data: PairSet, name: str) -> NDArray[np.int64]:
    column = data.pairs.column(name).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.int64)
