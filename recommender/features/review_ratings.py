"""Ratings of reviews: what is usual in a shop, and what the words of a review without a rating amount to.

A ridge regression on the vectors of the text encoder learns from the shop's own reviews that have both. It counts only
if it predicts reviews that it was not fitted on better than their mean does.

Shapes: N reviews · D width of a vector · S singular values.
"""

from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender import logs
from recommender.features.search_matches import has_encoder
from recommender.features.source import TIME_TYPE, Source
from recommender.sequences.text import text_vectors

FEWEST_RATINGS = 50
"""With fewer ratings before the moment it is not known which one is good, and reviews count nothing. By hand."""
FEWEST_TEXTS, MOST_FITTED = 200, 1_000
"""Reviews with words and rating that the head needs, and the newest ones that it is fitted on. By hand: 1,000 take the
encoder some ten seconds."""
MOST_READ = 1_000
"""Distinct reviews without a rating whose words are read: the newest ones."""
MOST_CHARACTERS = 400
"""Of a review. Its first sentences say what the shopper thinks, and the encoder's time grows with the length."""
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Ridge penalties that are tried. Vectors have length 1, so these are of the order of the largest singular values."""

Floats = NDArray[np.float64]
log = logs.get(__name__)


@dataclass(frozen=True)
class Ratings:
    """What is usual of a shop's ratings."""

    mean: float
    spread: float
    """Standard deviation, above 0."""


def usual(source: Source, before: datetime) -> Ratings | None:
    """Mean and deviation of the ratings before a moment. None where they are too few or all the same."""
    rated = _reviews(source)
    if rated is None:
        return None
    rated = rated.filter(rated.rating.notnull(), rated.event_time < ibis.literal(before, TIME_TYPE))
    # Whole hundredths, so that the sums do not depend on their order.
    cents = (rated.rating * 100).round().cast("int64")
    found = rated.aggregate(num=rated.count(), total=cents.sum(), squares=(cents * cents).sum()).to_pyarrow()
    num, total, squares = (found[name][0].as_py() for name in ("num", "total", "squares"))
    if num < FEWEST_RATINGS or num * squares <= total * total:
        return None
    mean = int(total) / num
    return Ratings(mean / 100, float(np.sqrt(int(squares) / num - mean * mean)) / 100)


def read_texts(source: Source, before: datetime) -> tuple[pa.Table, dict[str, object]]:
    """Predict the ratings of reviews that have only words, by a head fitted on reviews before a moment.

    Returns:
        text, rating; and what was fitted on how many. No rows where reviews have no words, too few have both, the
        encoder is not installed, or the words do not predict the ratings.
    """
    nothing = pa.table({"text": pa.array([], pa.string()), "rating": pa.array([], pa.float64())})
    reviews = _reviews(source)
    if reviews is None or "text" not in reviews.columns:
        return nothing, {}
    reviews = reviews.filter(reviews.text.notnull())
    newest = [reviews.event_time.desc(), "user_id", "text"]
    unrated = reviews.filter(reviews.rating.isnull(), reviews.event_time < ibis.literal(source.as_of, TIME_TYPE))
    texts = unrated.group_by("text").agg(event_time=unrated.event_time.max())
    wanted = texts.order_by(texts.event_time.desc(), "text").limit(MOST_READ).to_pyarrow()["text"].to_pylist()
    if not wanted:
        return nothing, {}
    both = reviews.filter(reviews.rating.notnull(), reviews.event_time < ibis.literal(before, TIME_TYPE))
    known = both.order_by(*newest).limit(MOST_FITTED).select("text", "rating").to_pyarrow()
    said: dict[str, object] = {"fitted_on": len(known), "texts": len(wanted), "encoder": has_encoder()}
    if len(known) < FEWEST_TEXTS or not has_encoder():
        log.info("reviews without a rating count nothing", **said)
        return nothing, said
    # Not cached: nothing of a shopper's words stays behind.
    vectors_ND = _vectors(known["text"].to_pylist())
    head = Head.fit(vectors_ND, known["rating"].to_numpy().astype(np.float64))
    said["explained"] = round(head.explained, 3)
    log.info("ratings read from the words of reviews", **said)
    if head.explained <= 0:
        return nothing, said
    return pa.table({"text": wanted, "rating": head.predict(_vectors(wanted))}), said


@dataclass(frozen=True, eq=False)
class Head:
    """A ridge regression."""

    mean: float
    mean_D: Floats
    weight_D: Floats
    lowest: float
    highest: float
    explained: float
    """Share of the variance that is explained of reviews that were left out, one by one."""

    @classmethod
    def fit(cls, vectors_ND: Floats, rating_N: Floats) -> "Head":
        """Fit with the penalty that predicts left-out reviews best (Allen's PRESS, Technometrics 1974)."""
        mean, mean_D = float(rating_N.mean()), vectors_ND.mean(axis=0)
        left_NS, singular_S, right_SD = np.linalg.svd(vectors_ND - mean_D, full_matrices=False)
        centred_N = rating_N - mean
        best: tuple[float, Floats] | None = None
        for penalty in PENALTIES:
            kept_S = singular_S**2 / (singular_S**2 + penalty)
            leverage_N = 1 / len(rating_N) + (left_NS**2) @ kept_S
            residual_N = (centred_N - left_NS @ (kept_S * (left_NS.T @ centred_N))) / (1 - leverage_N)
            error = float(np.mean(residual_N**2))
            if best is None or error < best[0]:
                scale_S = singular_S / (singular_S**2 + penalty)
                best = error, right_SD.T @ (scale_S * (left_NS.T @ centred_N))
        assert best is not None
        # Against the mean of the others, as the head is.
        variance = float(np.mean((centred_N * len(rating_N) / (len(rating_N) - 1)) ** 2))
        explained = 1 - best[0] / variance if variance > 0 else 0.0
        return cls(mean, mean_D, best[1], float(rating_N.min()), float(rating_N.max()), explained)

    def predict(self, vectors_ND: Floats) -> Floats:
        """Ratings, float64 [N], within those that were seen."""
        return np.clip(self.mean + (vectors_ND - self.mean_D) @ self.weight_D, self.lowest, self.highest)


def _vectors(texts: list[str]) -> Floats:
    return text_vectors([text[:MOST_CHARACTERS] for text in texts]).astype(np.float64)


def _reviews(source: Source) -> ir.Table | None:
    events = source.table("events")
    if "rating" not in events.columns:
        return None
    return events.filter(events.kind == "review")
