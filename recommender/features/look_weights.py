"""How much each kind of look counts, and how soon it is forgotten: learnt from what shoppers bought next.

A purchase of a value (a category) is explained by a mixture: what everyone buys, and what its user had looked at, each
kind with its weight and halved after each half-life. Weights and half-lives have the largest likelihood over purchases
before one moment. Looks of the last day before a purchase are left out: those of the same visit would say that only the
last hour counts, but a campaign runs for days.

The moment is that of the gate period, so that what judges a ranker was not learnt from.

Shapes: N purchases · K kinds · H half-lives that are tried.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S
from recommender.features import review_ratings
from recommender.features.look_events import item_looks, search_looks
from recommender.features.search_matches import has_encoder, search_matches
from recommender.features.source import TIME_TYPE, Source
from recommender.matching.affinity import AXES
from recommender.matching.look_rules import HALF_LIFE_DAYS, KINDS, LEFT_OUT_DAYS, STRENGTH_UNIT, WEIGHTS, LookRules
from recommender.settings import LookSettings

TRIED_DAYS = (3.0, 7.0, 14.0, 30.0, 90.0)
"""Half-lives that are tried."""
SAMPLE, FEWEST = 5_000, 200
"""Purchases that are learnt from: the last ones. With fewer than `FEWEST`, or as few that followed a look of a kind,
the values by hand stay."""
LEARNT_DAYS, LOOKED_DAYS = 180, 180
"""Purchases and looks older than this are not read."""
ROUNDS = 2
"""Rounds over the kinds. A third changed nothing in synthetic worlds."""
PENALTY = 1e-3
"""Weight of the squared logarithms of the weights, so that a flat likelihood has a maximum."""
_AXES = ("category", "product_type", "department")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LookWeights:
    """What looks count, and what the words of searches and reviews mean."""

    rules: LookRules
    learnt: tuple[str, ...] = ()
    """Kinds whose values were learnt."""
    searches: pa.Table | None = None
    """Values that each search means, see `search_matches`."""
    texts: pa.Table | None = None
    """Ratings read from reviews without one, see `review_ratings.read_texts`."""
    said: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How searches were matched and reviews read."""

    @classmethod
    def by_hand(cls) -> "LookWeights":
        """The values for a shop of which nothing is known."""
        return cls(LookRules.by_hand())

    def described(self) -> dict[str, Any]:
        """What they are, for `schema.json`."""
        return {**asdict(self.rules), "learnt": self.learnt, **self.said}


def look_weights(
    source: Source,
    settings: LookSettings,
    before: datetime | None,
    *,
    published: LookRules | None = None,
    cache: Path | None = None,
) -> LookWeights:
    """What the settings name, else what was learnt before a moment, else the values by hand.

    Args:
        source: the tables.
        settings: values that are set.
        before: what happened before it teaches. None: nothing is learnt, and reviews do not count.
        published: what counts in place of all that, as an earlier build found it.
        cache: a folder that keeps the text encoder's vectors of names and searches.
    """
    said: dict[str, Mapping[str, object]] = {}
    matches, said["searches"] = search_matches(source, encoder=settings.encoder, cache=cache)
    if published is not None:
        before = None if published.before is None else datetime.fromisoformat(published.before)
    by_encoder = settings.encoder and has_encoder()
    rules = published or replace(LookRules.by_hand(), dwell_s=settings.dwell_s, encoder=by_encoder)
    texts = None
    if before is not None:
        before = min(before, source.as_of)
        ratings = review_ratings.usual(source, before)
        if ratings is not None:
            if published is None:
                rules = replace(rules, rating_mean=ratings.mean, rating_spread=ratings.spread)
            if settings.encoder:
                texts, said["reviews"] = review_ratings.read_texts(source, before)
    found = LookWeights(rules, searches=matches, texts=texts, said={name: of for name, of in said.items() if of})
    if published is not None:
        return found
    if before is not None:
        found = replace(found, rules=replace(rules, before=before.isoformat()))
        found = (_learnt(source, before, found) if settings.learn else None) or found
    rules = replace(
        found.rules,
        weight=dict(found.rules.weight) | {str(kind): value for kind, value in settings.weight.items()},
        half_life_days=dict(found.rules.half_life_days)
        | {str(kind): value for kind, value in settings.half_life_days.items()},
    )
    return replace(found, rules=rules)


def _learnt(source: Source, before: datetime, known: LookWeights) -> LookWeights | None:
    """Learn from the last purchases before a moment. None where they are too few."""
    axis = next((name for name in _AXES if len(source.taxonomy.axis_values[AXES.index(name)]) > 2), None)
    if axis is None or not _has_any(source, known):
        return None
    table, popular_N = _aged_looks(source, before, axis, known)
    if len(popular_N) < FEWEST:
        return None
    kinds = []
    for kind in KINDS:
        same = np.array([row == kind for row in table["kind"].to_pylist()], dtype=bool) & table["same"].to_numpy()
        if len(np.unique(table["purchase"].to_numpy()[same])) >= FEWEST:
            kinds.append(kind)
    if not kinds:
        return None
    own_KHN, all_KHN, num_K = _sums(table, kinds, len(popular_N))
    chosen_K = np.full(len(kinds), TRIED_DAYS.index(HALF_LIFE_DAYS["cart"]))
    rows = np.arange(len(kinds))
    for _ in range(ROUNDS):
        for place in range(len(kinds)):
            losses = []
            for tried in range(len(TRIED_DAYS)):
                chosen_K[place] = tried
                losses.append(_fit(own_KHN[rows, chosen_K], all_KHN[rows, chosen_K], popular_N)[0])
            chosen_K[place] = int(np.argmin(losses))
    _, weight_K = _fit(own_KHN[rows, chosen_K], all_KHN[rows, chosen_K], popular_N)
    # Only their relation is known. A look counts one on average.
    weight_K = weight_K * num_K.sum() / (weight_K * num_K).sum()
    weights = {kind: float(f"{value:.3g}") for kind, value in zip(kinds, weight_K.tolist(), strict=True)}
    half_lives = {kind: TRIED_DAYS[place] for kind, place in zip(kinds, chosen_K.tolist(), strict=True)}
    rules = replace(known.rules, weight={**WEIGHTS, **weights}, half_life_days={**HALF_LIFE_DAYS, **half_lives})
    return replace(known, rules=rules, learnt=tuple(kinds))


def _has_any(source: Source, known: LookWeights) -> bool:
    looks = item_looks(source, known.rules, known.texts)
    searched = search_looks(source, known.searches)
    return any(table is not None and bool(table.limit(1).count().to_pyarrow().as_py()) for table in (looks, searched))


def _aged_looks(source: Source, before: datetime, axis: str, known: LookWeights) -> tuple[pa.Table, Floats]:
    """Looks before purchases, counted by kind, whole days and whether they were at the bought value.

    Returns:
        purchase (numbered), kind, `days`, `same` and `count`; and how popular each purchase's value is, float64 [N].
    """
    since = before - timedelta(days=LEARNT_DAYS)
    lines = source.lines.filter(
        source.lines.event_time < ibis.literal(before, TIME_TYPE),
        source.lines.event_time >= ibis.literal(since, TIME_TYPE),
    )
    lines = lines.mutate(bought=lines[axis]).filter(lines[axis] > 0)
    visits = lines.group_by("user_id", "bought", "basket").agg(bought_s=lines.time_s.max())
    last = visits.order_by(visits.bought_s.desc(), "user_id", "bought", "basket").limit(SAMPLE).to_pyarrow()
    counts = lines.group_by("bought").agg(lines=lines.count()).order_by("bought").to_pyarrow()
    share = dict(
        zip(counts["bought"].to_pylist(), counts["lines"].to_numpy() / counts["lines"].to_numpy().sum(), strict=True)
    )
    popular_N = np.array([share[value] for value in last["bought"].to_pylist()], dtype=np.float64)
    purchases = ibis.memtable(last.append_column("purchase", pa.array(range(len(last)), pa.int64())))
    joined = _seen(source, axis, known).inner_join(purchases, "user_id")
    age_s: Any = joined.bought_s - joined.time_s
    joined = joined.mutate(days=(age_s // DAY_S).cast("int64"), same=joined.seen == joined.bought, age_s=age_s)
    joined = joined.filter(joined.age_s >= LEFT_OUT_DAYS * DAY_S, joined.days <= LOOKED_DAYS, joined.seen > 0)
    grouped = joined.group_by("purchase", "kind", "days", "same").agg(count=joined.strength.sum())
    return grouped.order_by("purchase", "kind", "days", "same").to_pyarrow(), popular_N


def _seen(source: Source, axis: str, known: LookWeights) -> Any:
    """Looks by the value of one axis: user_id, kind, time_s, seen and strength, which is positive."""
    axes = ibis.memtable(source.taxonomy.table().select(["item_id", axis]).rename_columns(["item_id", "seen"]))
    columns = ("user_id", "kind", "time_s", "seen", "strength")
    # A bad review does not say what comes next, but what does not.
    looks = item_looks(source, known.rules, known.texts).filter(lambda table: table.strength > 0)
    seen = looks.inner_join(axes, "item_id").mutate(seen=lambda table: table.seen.cast("int64")).select(*columns)
    searched = search_looks(source, known.searches)
    if searched is None:
        return seen
    own = searched.filter(searched.axis == AXES.index(axis))
    return seen.union(own.mutate(seen=own["value"].cast("int64")).select(*columns))


def _sums(table: pa.Table, kinds: list[str], num: int) -> tuple[Floats, Floats, Floats]:
    """Decayed looks at the bought value and at any, float64 [K, H, N], and the strength of all, float64 [K]."""
    purchase, days, same = (table[name].to_numpy() for name in ("purchase", "days", "same"))
    count = table["count"].to_numpy().astype(np.float64) / STRENGTH_UNIT
    of_kind = np.array(table["kind"].to_pylist(), dtype=object)
    own_KHN, all_KHN = np.zeros((len(kinds), len(TRIED_DAYS), num)), np.zeros((len(kinds), len(TRIED_DAYS), num))
    num_K = np.zeros(len(kinds))
    for k, kind in enumerate(kinds):
        rows = np.flatnonzero(of_kind == kind)
        num_K[k] = count[rows].sum()
        for h, half_life in enumerate(TRIED_DAYS):
            decayed = count[rows] * 0.5 ** (days[rows] / half_life)
            all_KHN[k, h] = np.bincount(purchase[rows], weights=decayed, minlength=num)
            own_KHN[k, h] = np.bincount(purchase[rows], weights=decayed * same[rows], minlength=num)
    return own_KHN, all_KHN, num_K


def _fit(own_KN: Floats, all_KN: Floats, popular_N: Floats) -> tuple[float, Floats]:
    """Loss and weights [K] of the likeliest mixture, beside one unit of what everyone buys."""
    from scipy.optimize import minimize

    def loss(log_K: Floats) -> tuple[float, Floats]:
        weight_K = np.exp(log_K)
        top_N, bottom_N = popular_N + weight_K @ own_KN, 1.0 + weight_K @ all_KN
        value = -float(np.mean(np.log(top_N) - np.log(bottom_N))) + PENALTY * float(log_K @ log_K)
        gradient_K = -weight_K * ((own_KN / top_N).mean(axis=1) - (all_KN / bottom_N).mean(axis=1))
        return value, gradient_K + 2 * PENALTY * log_K

    found = minimize(loss, np.zeros(len(own_KN)), jac=True, method="L-BFGS-B", bounds=[(-10, 10)] * len(own_KN))
    return float(found.fun), np.asarray(np.exp(found.x), dtype=np.float64)
