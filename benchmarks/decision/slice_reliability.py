"""How often the guardrail on take-up in slices holds a challenger that is only equal, and one that errs in a segment.

The worlds are those of `gate`. Users also have segments: seven axes of four values, drawn independently, and campaigns
have the types of the default data. Every slice that the judgement file calls large enough is judged.

Shapes: N pairs.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.gate import CAMPAIGNS, NOISES, NUM_USERS, Floats, Gate
from benchmarks.decision.rows import Row
from recommender.evaluation.campaign_gains import OverCampaigns
from recommender.evaluation.document import Reliability, SliceResult
from recommender.evaluation.judgement import GateRule, Guardrails
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.reliability import error_factor, judged_slices, reliability, unreliable

NUM_AXES = 7
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Shares of users in the four values of each axis. By hand: about those of the default data's segments."""
TYPES_C = np.array([0, 1, 1, 1, 1, 0, 2, 2])
"""Types of campaigns 8 to 15: A, B and C."""
SEGMENT_NOISE = 0.1
"""Spread of a ranker's own error in each segment, in log-odds. Equal rankers have as much."""
WORLDS = 300
"""A rate of 5 % is then known to 2.5 points (two standard errors)."""
SEED = 29
LIMITS, CONFIDENCE = Guardrails(), GateRule().confidence
GOAL, POWER = 0.05, 0.7


def rows(say: Callable[[str], None]) -> list[Row]:
    """False holds of equal rankers, and power against twice the odds in one segment."""
    made = []
    for noise in NOISES:
        say(f"equal rankers, noise {noise:g}")
        share, facts = held(noise)
        made.append(
            Row.at_most(f"false HOLD by take-up in slices, equal rankers, noise {noise:g}", share, GOAL, **facts)
        )
    for noise in NOISES:
        say(f"twice the odds in one segment, noise {noise:g}")
        share, facts = held(noise, shift=float(np.log(2)))
        name = f"HOLD by take-up in slices, twice the odds in one segment of 30 % of the users, noise {noise:g}"
        if noise == 0.1:
            made.append(Row.at_least(name, share, POWER, **facts))
        else:
            made.append(Row(name=name, value=share, goal="", facts=facts))
    return made


def held(noise: float, *, shift: float = 0.0, worlds: int = WORLDS) -> tuple[float, dict[str, float]]:
    """Share of worlds in which the challenger is held, and that with some conditions left out.

    `shift` is added to the challenger's log-odds in one segment.
    """
    random = np.random.default_rng(SEED)
    hits = {"all": 0, "without_limits": 0, "without_champion": 0}
    for _ in range(worlds):
        gate = Gate.draw(CAMPAIGNS, random)
        segments = [random.choice(len(SHARES), NUM_USERS, p=SHARES)[gate.users_N] for _ in range(NUM_AXES)]
        axes = [*segments, TYPES_C[gate.campaigns_N]]
        challenger_N, champion_N = (_ranker(gate, noise, segments, random) for _ in range(2))
        challenger_N = challenger_N + shift * (segments[0] == 1)
        parts = judged_slices(_slices(gate, axes, challenger_N, champion_N), LIMITS)
        free = LIMITS.model_copy(update={"max_slice_take_up_error": 1.0, "max_slice_take_up_error_increase": 1.0})
        hits["all"] += any(_held(part, LIMITS, len(parts)) for part in parts)
        hits["without_limits"] += any(_held(part, free, len(parts)) for part in parts)
        hits["without_champion"] += any(_beyond_chance(part) for part in parts)
    share = hits.pop("all") / worlds
    return share, {**{name: count / worlds for name, count in hits.items()}, "worlds": worlds}


def _held(part: SliceResult, limits: Guardrails, count: int) -> bool:
    return unreliable(part, "challenger", "champion", limits, confidence=CONFIDENCE, slices=count)


def _beyond_chance(part: SliceResult) -> bool:
    """The first two conditions alone: beyond the limit, and the interval excludes 1."""
    over = part.reliability["challenger"].over_campaigns
    interval = None if over is None else over.interval(CONFIDENCE)
    if over is None or interval is None:
        return False
    return error_factor(over.value) > LIMITS.max_slice_take_up_error and not interval[0] <= 1 <= interval[1]


def _ranker(gate: Gate, noise: float, segments: list[NDArray[np.int64]], random: np.random.Generator) -> Floats:
    own = sum(random.normal(size=len(SHARES))[axis] * SEGMENT_NOISE / np.sqrt(NUM_AXES) for axis in segments)
    return np.asarray(gate.ranker(noise, random) + own)


def _slices(gate: Gate, axes: list[NDArray[np.int64]], challenger_N: Floats, champion_N: Floats) -> list[SliceResult]:
    redeemed_N, made = gate.redeemed_N.astype(np.float64), []
    scores = {"challenger": challenger_N, "champion": champion_N}
    for number, axis_N in enumerate(axes):
        for value in np.unique(axis_N):
            of = np.flatnonzero(axis_N == value)
            positives = int(redeemed_N[of].sum())
            if len(of) < LIMITS.min_slice_pairs or positives < LIMITS.min_slice_positives:
                continue
            both = {
                name: ScoredPairs(redeemed_N[of], 1 / (1 + np.exp(-log_odds_N[of])), gate.users_N[of])
                for name, log_odds_N in scores.items()
            }
            found, difference = reliability(
                both,
                gate.campaigns_N[of],
                challenger="challenger",
                champion="champion",
                confidence=CONFIDENCE,
                with_ece=False,
            )
            made.append(_result(f"axis {number}", str(value), positives, gate.campaigns_N[of], found, difference))
    return made


def _result(
    axis: str,
    value: str,
    positives: int,
    campaigns_N: NDArray[np.int64],
    found: dict[str, Reliability],
    difference: OverCampaigns | None,
) -> SliceResult:
    return SliceResult(
        axis=axis,
        value=value,
        num_pairs=len(campaigns_N),
        num_positives=positives,
        judged=True,
        auc={},
        auc_gain=None,
        log_loss_gain=None,
        mean_score={},
        lift={},
        num_campaigns=len(np.unique(campaigns_N)),
        reliability=found,
        expected_difference=difference,
    )
