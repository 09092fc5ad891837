"""Requests with which a worker warms up before it is READY: made-up users whose features have a real shape.

The first requests of a process cost many times as much as later ones (caches of the catalogue, allocators, kernels that
a library chooses when it is first used). A version that cannot answer one of them is not served at all.
"""

from collections.abc import Iterator

import numpy as np

from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user, type_code
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.packed_history import pack_history
from recommender.matching.packed_user import pack
from recommender.settings import Settings
from serving import wire
from serving.request import RecommendationRequest, ScoringRequest

VALUES, BASKETS, LINES = 200, 30, 8
"""Values on each axis, baskets and lines of a basket of a busy user, about as in a year of Complete Journey. Each user
here has between none and all of them."""
DAY_US, MONTHS = 86_400_000_000, 12.0
SEED = 1


def bodies(
    settings: Settings, catalogue: Catalogue, portrait_names: tuple[str, ...], *, as_of_us: int, number: int, key: bytes
) -> Iterator[bytes]:
    """Bodies as the gateway sends them, each for another user."""
    drawn = np.random.default_rng(SEED)
    for index in range(number):
        shopper = _shopper(catalogue, portrait_names, drawn, as_of_us, size=index / max(1, number - 1))
        request = RecommendationRequest(user_id=f"warm-up-{index}")
        asked = ScoringRequest(request=request, as_of_us=as_of_us, allow_repeats=settings.serving.allow_repeats)
        yield wire.encode(asked, pack(shopper), key)


def _shopper(
    catalogue: Catalogue, portrait_names: tuple[str, ...], drawn: np.random.Generator, as_of_us: int, *, size: float
) -> Shopper:
    """A user with a part `size` of a busy user's history."""
    values = []
    for axis in range(len(AXES)):
        known = len(catalogue.axis_values[axis]) - 1  # index 0 stands for no value
        chosen = drawn.permutation(known)[: round(VALUES * size)] + 1
        values.append(np.sort(chosen).astype(np.int32))
    types = np.array(sorted({type_code(one) for one in catalogue.campaign_types}), dtype=np.uint32)
    affinity = UserAffinity(
        months=MONTHS,
        values=tuple(values),
        counts=tuple(drawn.integers(0, 20, (len(MEASURES), len(of))).astype(np.uint16) for of in values),
        cents=tuple(drawn.integers(0, 10_000, len(of)).astype(np.uint32) for of in values),
        types=types,
        targeted=np.full(len(types), 2, dtype=np.uint16),
        redeemed=np.ones(len(types), dtype=np.uint16),
    )
    num_baskets, version = round(BASKETS * size), catalogue.taxonomy_version
    items = drawn.choice(values[0], num_baskets * LINES) if len(values[0]) else np.zeros(0)
    lines = np.full(num_baskets if len(items) else 0, LINES, dtype=np.int32)
    times_us = as_of_us - np.arange(len(lines), 0, -1, dtype=np.int64) * DAY_US
    spend = drawn.uniform(1, 100, len(lines)).astype(np.float32)
    return Shopper(
        user_id="",
        portrait_P=drawn.uniform(0, 5, len(portrait_names)).astype(np.float32),
        portrait_names=portrait_names,
        affinity=pack_user(affinity, version),
        history=pack_history(times_us, spend, lines, items.astype(np.int32), version),
        feature_time_us=as_of_us,
    )
