"""What re-ranking costs and brings on the default data, and how often the guardrails on lists hold an equal ranker.

Needs a finished `recommender run`. The lists are those of the gate period, ordered by the run's challenger, by its fit
that saw nothing of the period. Nothing of the final test is read.

Shapes: L lists · M candidates of all lists · R resamples.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.rows import Row
from recommender.datasets.periods import Periods
from recommender.engine.context import DEFAULT_SEED
from recommender.evaluation.document import Estimate, Evaluation
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import Judgement, read_judgement
from recommender.evaluation.list_checks import checks_of
from recommender.evaluation.list_metrics import ShownLists
from recommender.evaluation.list_results import CAUGHT, COVERAGE, LIST_METRICS, OPPORTUNITY_GAP, Figure
from recommender.evaluation.metrics import Floats
from recommender.evaluation.pairs import gate_pairs
from recommender.evaluation.shown_lists import PeriodLists
from recommender.features.training_set import TrainingSet
from recommender.matching.rerank import BY_SCORE, Kind, Rerank, place_weight
from recommender.registry import Registry, bundle
from recommender.registry.candidates import fit_before
from recommender.settings import load_settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set

KINDS: tuple[Kind, ...] = ("mmr", "calibrated")
TRADE_OFFS = (0.0, 0.1, 0.3, 0.5, 0.7)
BROUGHT = {"mmr": "campaign_diversity", "calibrated": "miscalibration"}
"""What each kind is meant to improve."""
SHOWN = (*BROUGHT.values(), CAUGHT, COVERAGE, "exposure_gini", OPPORTUNITY_GAP)
WORLDS, RESAMPLES = 200, 200
"""A rate of 2.5 % is then known to 2.2 points (two standard errors)."""
NOISES = ((0.1, 0.2), (0.3, 0.6))
"""Standard deviations of an equal ranker's noise in log-odds, by campaign and by pair. The first is the middle one of
the group `gate` with twice its chance by pair; the second swaps many places."""
BLIND = ("activity", "light")
"""Group of shoppers that the worse challenger ranks at random: the largest of the default data."""
REQUESTS, ROUNDS = 200, 5


@dataclass(frozen=True, eq=False)
class Gate:
    """The lists of the gate period, the ranker's scores, and the rules."""

    lists: PeriodLists
    score_M: NDArray[np.float32]
    groups: dict[str, list[str]]
    rules: Judgement

    def shown(self, rerank: Rerank, score_M: NDArray[np.float32] | None = None) -> ShownLists:
        """The lists by the ranker's own scores, or by others."""
        scores = self.score_M if score_M is None else score_M
        return self.lists.shown(scores, rule=self.rules.lists, rerank=rerank, groups=self.groups)


def rows(say: Callable[[str], None]) -> list[Row]:
    """Re-rank the lists of the gate period, time it, and judge equal rankers."""
    gate, ranker = _gate()
    say(f"{len(gate.lists.lists.users):,} lists of the gate period by {ranker}")
    return [*_costs(gate, ranker, say), *_latencies(gate, say), *_equal(gate, say)]


def _gate() -> tuple[Gate, str]:
    settings = load_settings(Path("recommender.toml"))
    home, registry, rules = Home.of(settings), Registry(settings.home), read_judgement(settings.judgement)
    data = TrainingSet.open(published_training_set(home))
    evaluation = Evaluation.read(home.published.evaluation)
    version = evaluation.candidates[evaluation.challenger].version
    period = gate_pairs(data, Periods(evaluation.gate_from, evaluation.test_from, evaluation.as_of))
    lists = PeriodLists.of(data, period)
    if lists is None:
        raise AssertionError("the training set has no lists of the gate period")
    fit = fit_before(registry.path(version), period.starts)
    ranker = bundle.load(fit, feature_names=lists.lists.examples.feature_names)
    limits = rules.guardrails
    groups = lists.groups(min_lists=limits.min_slice_pairs, min_participations=limits.min_slice_positives)
    return Gate(lists, ranker.score(lists.lists.examples).redeem_N, groups, rules), evaluation.challenger


def _costs(gate: Gate, ranker: str, say: Callable[[str], None]) -> list[Row]:
    bootstrap = Bootstrap(seed=DEFAULT_SEED)
    weights_RL = np.concatenate(list(bootstrap.weights(np.arange(len(gate.lists.lists.users)))))
    metrics: dict[str, Callable[[ShownLists, Floats], Floats]] = {
        "ndcg": _ndcg,
        "expected": lambda of, weights: _expected(gate, of, weights),
        **{name: LIST_METRICS[name].compute for name in SHOWN},
    }
    before = gate.shown(BY_SCORE)
    as_before = {name: Figure.of(compute, before, weights_RL) for name, compute in metrics.items()}
    found = []
    for kind in KINDS:
        for trade_off in TRADE_OFFS:
            now = gate.shown(Rerank(kind=kind, trade_off=trade_off))
            changes, values = {}, {}
            for name, compute in metrics.items():
                figure = Figure.of(compute, now, weights_RL)
                changes[name] = figure.minus(as_before[name]).estimate(bootstrap)
                values[name] = round(figure.value, 5)
            facts = {
                "ranker": ranker,
                "lists": len(now.shown_LK),
                "participations": int(now.relevant_LC.sum()),
                "moved_first": round(float((now.shown_LK[:, 0] != before.shown_LK[:, 0]).mean()), 4),
                "values": values,
                "changes": {name: _listed(change) for name, change in changes.items()},
            }
            for name in ("ndcg", BROUGHT[kind]):
                title = f"re-ranking by {kind}, trade-off {trade_off:g}: change in {name}"
                found.append(Row(name=title, value=changes[name].value or 0.0, goal="reported", facts=facts))
            say(f"{kind} {trade_off:g}: " + ", ".join(f"{name} {one.value:+.4f}" for name, one in changes.items()))
    return found


def _ndcg(lists: ShownLists, weights_RL: Floats) -> Floats:
    """NDCG of the shown places, over the lists with a later participation (Järvelin & Kekäläinen, ACM TOIS 2002)."""
    count_L = np.minimum(lists.relevant_LC.sum(axis=1), lists.shown_LK.shape[1])
    ideal = np.concatenate([[0.0], np.cumsum(place_weight(np.arange(lists.shown_LK.shape[1])))])
    gained_L = (lists.exposure_LC * lists.relevant_LC).sum(axis=1) / np.maximum(ideal[count_L], 1e-12)
    some_L = (count_L > 0).astype(np.float64)
    return np.asarray((weights_RL @ (gained_L * some_L)) / (weights_RL @ some_L))


def _expected(gate: Gate, lists: ShownLists, weights_RL: Floats) -> Floats:
    """Mean predicted probability of the first campaign, from the decision to the end of its window."""
    of = gate.lists.lists
    score_LC = np.zeros(lists.candidate_LC.shape)
    owner_M = np.repeat(np.arange(len(of.users)), of.sizes_L)
    score_LC[owner_M, np.searchsorted(lists.rows_C, of.examples.campaigns_N)] = gate.score_M
    first_L = score_LC[np.arange(len(score_LC)), lists.shown_LK[:, 0]]
    return np.asarray((weights_RL @ first_L) / weights_RL.sum(axis=1))


def _listed(change: Estimate) -> list[float | None]:
    return [None if end is None else round(end, 5) for end in (change.value, change.low, change.high)]


def _latencies(gate: Gate, say: Callable[[str], None]) -> list[Row]:
    """CPU time of ordering one user's campaigns, the median of users at their fastest, with all vectors prepared."""
    of, found = gate.lists.lists, []
    all_rows = np.arange(len(of.examples.catalogue.campaign_ids), dtype=np.int32)
    random_N = np.random.default_rng(DEFAULT_SEED).random(len(all_rows)).astype(np.float32)
    for kind in ("none", *KINDS):
        for live in (None, len(all_rows)):
            rerank, fastest = Rerank(kind=kind, trade_off=0.3), []
            for one in range(min(REQUESTS, len(of.users))):
                own = slice(int(of.offsets[one]), int(of.offsets[one + 1]))
                pairs = (random_N, all_rows) if live else (gate.score_M[own], of.examples.campaigns_N[own])
                seconds = []
                for _ in range(ROUNDS):
                    began = time.thread_time()
                    rerank.order(*pairs, of.examples.catalogue, of.shares[one])
                    seconds.append(time.thread_time() - began)
                fastest.append(min(seconds))
            size = "the live campaigns" if live is None else f"{live} campaigns"
            name = f"ordering one user's list, {kind}, {size}: microseconds"
            found.append(Row(name=name, value=round(float(np.median(fastest)) * 1e6, 1), goal="reported"))
            say(f"{name} {found[-1].value}")
    return found


def _equal(gate: Gate, say: Callable[[str], None]) -> list[Row]:
    """How often each guardrail holds a ranker that differs by noise alone, and one that is blind to a group."""
    random = np.random.default_rng(DEFAULT_SEED)
    score_M = gate.score_M.astype(np.float64).clip(1e-6, 1 - 1e-6)
    log_odds_M, found = np.log(score_M / (1 - score_M)), []
    for by_campaign, by_pair in NOISES:
        held = dict.fromkeys(("campaign coverage", "opportunity gap"), 0)
        for world in range(WORLDS):
            both_2M = [log_odds_M + _noise(gate, random, by_campaign, by_pair) for _ in range(2)]
            for name in _held(gate, both_2M[0], both_2M[1], random, world):
                held[name] += 1
        facts = {"worlds": WORLDS, "noise_of_campaign": by_campaign, "noise_of_pair": by_pair}
        say(f"equal rankers held of {WORLDS} at noise {by_campaign} / {by_pair}: {held}")
        found += [
            Row.at_most(
                f"equal rankers held by the guardrail on {name}, noise {by_campaign} / {by_pair}",
                count / WORLDS,
                0.025,
                **facts,
            )
            for name, count in held.items()
        ]
    axis, value = BLIND
    of = gate.lists.lists
    group_M = np.repeat(np.array(gate.lists.segments[axis]) == value, of.sizes_L)
    blind = 0
    for world in range(WORLDS):
        noise_M = _noise(gate, random, *NOISES[0])
        blind_M = np.where(group_M, random.normal(size=len(group_M)), log_odds_M + noise_M)
        champion_M = log_odds_M + _noise(gate, random, *NOISES[0])
        blind += "opportunity gap" in _held(gate, blind_M, champion_M, random, world)
    name = f"rankers that rank shoppers with {axis} = {value} at random, held by the guardrail on opportunity gap"
    say(f"{name}: {blind} of {WORLDS}")
    return [*found, Row(name=name, value=blind / WORLDS, goal="reported", facts={"worlds": WORLDS})]


def _noise(gate: Gate, random: np.random.Generator, by_campaign: float, by_pair: float) -> Floats:
    campaigns_M = gate.lists.lists.examples.campaigns_N
    of_campaign_C = random.normal(0, by_campaign, int(campaigns_M.max()) + 1)
    return of_campaign_C[campaigns_M] + random.normal(0, by_pair, len(campaigns_M))


def _held(gate: Gate, challenger_M: Floats, champion_M: Floats, random: np.random.Generator, world: int) -> list[str]:
    """Names of the guardrails that hold a challenger with these log-odds, on users drawn with replacement."""
    both = [
        gate.shown(BY_SCORE, (1 / (1 + np.exp(-log_odds_M))).astype(np.float32))
        for log_odds_M in (challenger_M, champion_M)
    ]
    bootstrap, size = Bootstrap(samples=RESAMPLES, seed=world), len(gate.lists.lists.users)
    drawn_L = random.multinomial(size, np.full(size, 1 / size))
    weights_RL = random.multinomial(size, drawn_L / size, size=RESAMPLES)
    all_RL = np.concatenate([drawn_L[None, :], weights_RL]).astype(np.float64)
    differences = {}
    for name in (COVERAGE, OPPORTUNITY_GAP):
        ours_R, theirs_R = (LIST_METRICS[name].compute(of, all_RL) for of in both)
        change = Figure(float(ours_R[0] - theirs_R[0]), ours_R[1:] - theirs_R[1:])
        differences[name] = change.estimate(bootstrap, biased=True)
    return [check.name for check in checks_of(differences, gate.rules.guardrails) if not check.passed]
