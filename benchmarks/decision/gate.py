"""How often the gate promotes a ranker that is only equal, and how often one that is better: simulated gate periods.

A world has the campaigns of the default data with their numbers of pairs and participations, users who meet several of
them, and a true log-odds for each pair. What happens in a campaign differs from what anyone could know by
`LEVEL` in log-odds. A ranker knows the rest of the truth up to its own noise in each campaign, each user and each pair.
Two rankers with the same noise are equally good, whatever their noise is.

`LEVEL` and the noise of users and pairs are chosen so that the gate as it was (users as the only unit) promotes equal
rankers about as often as it did when that was found: 12, 18 and 23 % at a noise in campaigns of .05, .1 and .2.

Shapes: N pairs · C campaigns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from benchmarks.decision.rows import Row
from recommender.evaluation.campaign_gains import CampaignGains, pool
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import GateRule
from recommender.evaluation.ledger import level_of
from recommender.evaluation.metrics import ScoredPairs

Floats = NDArray[np.float64]
CAMPAIGNS = ((1076, 158), (176, 20), (123, 10), (214, 6), (170, 11), (1077, 196), (224, 18), (17, 2))
"""Pairs and participations of Complete Journey's campaigns 8 to 15, which start from May to September."""
GATES = {"3 campaigns": CAMPAIGNS[5:], "8 campaigns": CAMPAIGNS}
"""The campaigns from August, and those from May."""
ONE_LARGE = ((1000, 120), *[(30, 4)] * 5)
"""A gate that one campaign dominates."""
STARTS_C = (0.05, 0.20, 0.38, 0.47, 0.47, 0.65, 0.82, 0.93)
LENGTHS_C = (0.31, 0.21, 0.21, 0.30, 0.21, 0.31, 0.42, 1.05)
"""Starts and lengths of the eight campaigns' windows, as shares of the 153 days from May to September."""
DAY = 1 / 153
NUM_USERS = 1559
"""Households that any campaign of the default data targets."""
USER_SPREAD = 1.6
"""Standard deviation of users' log-odds: the best possible AUC is then about that of the default data's best ranker."""
LEVEL, USER_NOISE, PAIR_NOISE = 0.4, 0.1, 0.05
NOISES = (0.05, 0.1, 0.2)
WORLDS, TRIED_WORLDS, TRIES = 1000, 200, 30
"""A rate of 5 % is then known to 1.4 points (two standard errors); for repeated tries to 3 points."""
SEASONS, APART = (0.2, 0.3), 0.2
"""Standard deviations of what all campaigns of a period share, and how far apart two rankers' levels are, in
log-odds."""
RANKED_WORLDS, RANKED_RESAMPLES = 500, 200
"""For AUC and average precision, computed inside every campaign of every resample. A rate of 5 % is then known to two
points. The gate itself draws 1,000 resamples."""
TRUE_GAIN_NOISE = 0.495
"""Further noise of the champion in each pair that costs it about .01 in log loss."""
SEED = 28


@dataclass(frozen=True, eq=False)
class Gate:
    """The pairs of one simulated gate period."""

    campaigns_N: NDArray[np.int64]
    users_N: NDArray[np.int64]
    log_odds_N: Floats
    """All that can be known."""
    redeemed_N: NDArray[np.bool_]
    redeemed_at_N: Floats
    """Time of the participation, as a share of the period. It counts from then on."""

    @classmethod
    def draw(cls, sizes: Sequence[tuple[int, int]], random: np.random.Generator, *, season: float = 0.0) -> "Gate":
        """Draw a period whose campaigns have these pairs and about these participations.

        Of what nobody could know about a campaign, its campaigns share a part with standard deviation `season`.
        """
        own = random.normal(size=NUM_USERS) * USER_SPREAD
        shared = random.normal() * season if season else 0.0
        level = np.sqrt(LEVEL**2 - season**2)
        parts: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = []
        for place, (pairs, positives) in enumerate(sizes):
            users = random.choice(NUM_USERS, pairs, replace=False)
            # A spread of log-odds around a mean below 0 raises the mean rate: .9 takes that back for these sizes.
            known = np.log(positives / (pairs - positives)) - 0.9 + own[users]
            true = known + shared + random.normal() * level
            when = STARTS_C[place % 8] + LENGTHS_C[place % 8] * random.random(pairs)
            parts.append((users, known, true, when))
        users_N, known_N, true_N, when_N = (np.concatenate(column) for column in zip(*parts, strict=True))
        campaigns_N = np.repeat(np.arange(len(sizes)), [pairs for pairs, _ in sizes])
        redeemed_N = random.random(len(true_N)) < 1 / (1 + np.exp(-true_N))
        return cls(campaigns_N, users_N, known_N, redeemed_N, when_N)

    def ranker(self, noise: float, random: np.random.Generator, *, further: float = 0.0) -> Floats:
        """Log-odds of one ranker: the truth with its own noise by campaign, user and pair."""
        by_campaign = random.normal(size=int(self.campaigns_N.max()) + 1) * noise
        by_user = random.normal(size=NUM_USERS) * USER_NOISE
        by_pair = random.normal(size=len(self.users_N)) * np.hypot(PAIR_NOISE, further)
        return np.asarray(self.log_odds_N + by_campaign[self.campaigns_N] + by_user[self.users_N] + by_pair)

    def gains(self, challenger_N: Floats, champion_N: Floats) -> Floats:
        """Log loss of the champion minus the challenger's, each pair."""
        signs_N = np.where(self.redeemed_N, -1.0, 1.0)
        return np.logaddexp(0, signs_N * champion_N) - np.logaddexp(0, signs_N * challenger_N)

    def until(self, moment: float) -> "Gate":
        """What is known at `moment`: campaigns that have started, participations until then."""
        began = [start <= moment for start in STARTS_C[: int(self.campaigns_N.max()) + 1]]
        # The campaigns are in the order of their starts, so those that have begun keep their numbers.
        kept = np.array(began)[self.campaigns_N]
        redeemed_N = self.redeemed_N & (self.redeemed_at_N <= moment)
        columns = (self.campaigns_N, self.users_N, self.log_odds_N, redeemed_N, self.redeemed_at_N)
        return Gate(*(column[kept] for column in columns))

    def take(self, values_N: Floats, moment: float) -> Floats:
        """The values of the pairs of `until(moment)`."""
        return np.asarray(values_N[np.array([start <= moment for start in STARTS_C])[self.campaigns_N]])


def before(gate: Gate, gains_N: Floats, one_sided: float = 0.025) -> bool:
    """The gate as it was: the interval of the mean over users alone lies above 0."""
    centred_H = np.bincount(gate.users_N, weights=gains_N - gains_N.mean())
    error = np.sqrt((centred_H**2).sum()) / len(gains_N)
    return bool(gains_N.mean() > t.ppf(1 - one_sided, NUM_USERS) * error)


def now(gate: Gate, gains_N: Floats, one_sided: float, *, fewest: int = GateRule().min_campaigns) -> bool:
    """The gate as it is: at least `fewest` campaigns, and the interval over users and campaigns lies above 0."""
    pooled = CampaignGains.of_means(gains_N, gate.campaigns_N, gate.users_N).pooled()
    count = len(pooled.weight_C)
    if count < fewest:
        return False
    return bool(pooled.value > t.ppf(1 - one_sided, count - 1) * pooled.standard_error)


Rule = Callable[[Gate, Floats, float], bool]
FIRST = level_of(1, GateRule().false_promotions)
"""What the first attempt of a gate period may spend."""


def promoted(
    sizes: Sequence[tuple[int, int]], noise: float, rule: Rule, *, worlds: int = WORLDS, further: float = 0.0
) -> tuple[float, float]:
    """Share of worlds in which the challenger is promoted at the first attempt, and its mean gain in log loss."""
    random = np.random.default_rng(SEED)
    hits, gains = 0, []
    for _ in range(worlds):
        gate = Gate.draw(sizes, random)
        gains_N = gate.gains(gate.ranker(noise, random), gate.ranker(noise, random, further=further))
        hits += rule(gate, gains_N, FIRST)
        gains.append(gains_N.mean())
    return hits / worlds, float(np.mean(gains))


def promoted_in_a_season(season: float, *, worlds: int = WORLDS) -> float:
    """Share of worlds in which the challenger is promoted, of two rankers one of which expects more of all campaigns.

    Which one does is chance, so they are equally good before the period. Campaigns of one period share its season.
    """
    random = np.random.default_rng(SEED + 4)
    hits = 0
    for _ in range(worlds):
        gate = Gate.draw(CAMPAIGNS, random, season=season)
        shift = random.choice([-0.5, 0.5]) * APART
        hits += now(gate, gate.gains(gate.ranker(0.05, random) + shift, gate.ranker(0.05, random) - shift), FIRST)
    return hits / worlds


def promoted_by_order(metric: str, noise: float, *, worlds: int = RANKED_WORLDS) -> float:
    """Share of worlds in which an equal challenger is promoted by its AUC or average precision inside the campaigns.

    Noise that moves all users of a campaign alike does not change their order. So each ranker also leans, in each
    campaign by its own amount, towards users with some trait: with a standard deviation of `noise` in log-odds.
    """
    random = np.random.default_rng(SEED + 3)
    names = {number: str(number) for number in range(len(CAMPAIGNS))}
    hits = 0
    for world in range(worlds):
        gate = Gate.draw(CAMPAIGNS, random)
        trait_N = random.normal(size=NUM_USERS)[gate.users_N]
        challenger, champion = (
            ScoredPairs(
                gate.redeemed_N.astype(np.float64),
                1
                / (1 + np.exp(-gate.ranker(noise, random) - random.normal(size=8)[gate.campaigns_N] * noise * trait_N)),
                gate.users_N,
            )
            for _ in range(2)
        )
        drawn = Bootstrap(samples=RANKED_RESAMPLES, confidence=GateRule().confidence, seed=world)
        pooled = pool(challenger, champion, gate.campaigns_N, names, metric, drawn)
        interval = None if pooled is None else pooled.interval(1 - 2 * FIRST)
        enough = pooled is not None and len(pooled.campaigns) >= GateRule().min_campaigns
        hits += enough and interval is not None and interval[0] > 0
    return hits / worlds


def promoted_among(noise: float, rule: Rule, *, spend: bool, worlds: int = TRIED_WORLDS) -> float:
    """Share of worlds in which any of 30 equal challengers, tried in turn against one champion, is promoted."""
    random = np.random.default_rng(SEED + 1)
    hits = 0
    for _ in range(worlds):
        gate = Gate.draw(CAMPAIGNS, random)
        champion_N = gate.ranker(noise, random)
        hits += any(
            rule(gate, gate.gains(gate.ranker(noise, random), champion_N), _level(attempt, spend))
            for attempt in range(1, TRIES + 1)
        )
    return hits / worlds


def promoted_at_some_look(noise: float, rule: Rule, *, spend: bool, worlds: int = TRIED_WORLDS) -> float:
    """Share of worlds in which one equal challenger is promoted at any of 30 daily looks, the last at the end."""
    random = np.random.default_rng(SEED + 2)
    hits = 0
    for _ in range(worlds):
        gate = Gate.draw(CAMPAIGNS, random)
        rankers = [gate.ranker(noise, random) for _ in range(2)]
        for attempt in range(1, TRIES + 1):
            moment = 1 - (TRIES - attempt) * DAY
            seen = gate.until(moment)
            gains_N = seen.gains(*(gate.take(scores_N, moment) for scores_N in rankers))
            if rule(seen, gains_N, _level(attempt, spend)):
                hits += 1
                break
    return hits / worlds


def _level(attempt: int, spend: bool) -> float:
    return level_of(attempt, GateRule().false_promotions) if spend else FIRST


def rows(say: Callable[[str], None]) -> list[Row]:
    """All figures of the gate."""
    made: list[Row] = []
    total = GateRule().false_promotions
    before_rule: Rule = before
    for name, sizes in GATES.items():
        for noise in NOISES:
            say(f"equal rankers, {name}, noise {noise:g}")
            was, _ = promoted(sizes, noise, before_rule)
            share, _ = promoted(sizes, noise, now)
            free, _ = promoted(sizes, noise, partial(now, fewest=2))
            facts = {"before": was, "without_minimum_of_campaigns": free, "worlds": WORLDS}
            made.append(Row.at_most(f"false PROMOTE, {name}, noise {noise:g}", share, total, **facts))
    for noise in NOISES:
        share, _ = promoted(ONE_LARGE, noise, partial(now, fewest=2))
        was, _ = promoted(ONE_LARGE, noise, before_rule)
        name = f"false PROMOTE, one campaign of 1,000 pairs and five of 30, noise {noise:g}"
        made.append(Row.at_most(name, share, total, before=was, worlds=WORLDS))
    for metric, title in (("auc", "AUC"), ("ap", "average precision")):
        for noise in NOISES:
            say(f"equal rankers by {title}, noise {noise:g}")
            name = f"false PROMOTE by {title}, 8 campaigns, noise {noise:g}"
            made.append(Row.at_most(name, promoted_by_order(metric, noise), total, worlds=RANKED_WORLDS))
    for season in SEASONS:
        say(f"rankers {APART:g} apart in level, a season of {season:g}")
        name = f"PROMOTE, rankers {APART:g} apart in level, season {season:g} shared by the 8 campaigns"
        made.append(Row(name=name, value=promoted_in_a_season(season), goal="", facts={"worlds": WORLDS}))
    say("power")
    power, gain = promoted(CAMPAIGNS, 0.1, now, further=TRUE_GAIN_NOISE)
    was, _ = promoted(CAMPAIGNS, 0.1, before_rule, further=TRUE_GAIN_NOISE)
    facts = {"before": was, "mean_gain": gain, "worlds": WORLDS}
    made.append(Row.at_least("power at a gain of .01 in log loss, noise 0.1, 8 campaigns", power, 0.5, **facts))
    for title, measure in (
        (f"{TRIES} equal challengers on one gate period", promoted_among),
        (f"{TRIES} daily looks at one equal challenger", promoted_at_some_look),
    ):
        for noise in NOISES:
            say(f"{title}, noise {noise:g}")
            share = measure(noise, now, spend=True)
            facts = {
                "before": measure(noise, before_rule, spend=False),
                "without_ledger": measure(noise, now, spend=False),
                "worlds": TRIED_WORLDS,
            }
            made.append(Row.at_most(f"any false PROMOTE, {title}, noise {noise:g}", share, total, **facts))
    return made
