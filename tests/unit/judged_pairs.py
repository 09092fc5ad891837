"""A small world with a known truth and rankers of known quality, for the tests of evaluation and gate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from random_examples import random_catalogue, random_histories

from recommender.engine.context import FitContext
from recommender.features.decision_lists import DecisionLists
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.registry import bundle

START = datetime(2017, 1, 1, tzinfo=UTC)
GATE, TEST, AS_OF = (START + timedelta(days=days) for days in (30, 210, 360))
NUM_CAMPAIGNS, NUM_USERS = 12, 300
FEATURES = ("base__truth", "base__rumour", "base__noise")


class ReadingRanker(Ranker):
    """Reads the log-odds from one feature: as good as that feature is. Registered by the tests as `reading`."""

    name = "reading"

    def __init__(self, column: int, scale: float, upside_down_in: str) -> None:
        self.column, self.scale, self.upside_down_in = column, scale, upside_down_in

    @classmethod
    def fit(
        cls, examples: Examples, labels: Labels, *, corpus: Histories, config: Mapping[str, Any], context: FitContext
    ) -> Self:
        return cls(int(config["column"]), float(config["scale"]), str(config["upside_down_in"]))

    def score(self, examples: Examples) -> Scores:
        log_odds_N = examples.features_NF[:, self.column] * self.scale
        if self.upside_down_in:
            types = np.array(examples.catalogue.campaign_types, dtype=object)[examples.campaigns_N]
            log_odds_N = np.where(types == self.upside_down_in, -log_odds_N - 2.5, log_odds_N)
        score_N = (1 / (1 + np.exp(-log_odds_N))).astype(np.float32)
        return Scores(redeem_N=score_N, spend_N=score_N * 20)

    def contributions(self, examples: Examples) -> None:
        return None

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"scale": np.array([self.scale])}

    def config(self) -> dict[str, Any]:
        return {"column": self.column, "upside_down_in": self.upside_down_in, "feature_names": list(FEATURES)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        return cls(int(config["column"]), float(tensors["scale"][0]), str(config["upside_down_in"]))


@dataclass(frozen=True, eq=False)
class World:
    """Pairs in memory, as `evaluation.evaluate.compare` takes them."""

    all: Examples
    pairs: pa.Table
    redeemed_N: NDArray[np.float32]
    num_requests: int = 20

    segments = ("age_band",)
    log_end = AS_OF

    @property
    def lists(self) -> DecisionLists:
        return DecisionLists.none(self.all)

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        part = self.all
        return replace(
            part, campaigns_N=part.campaigns_N[mask], users_N=part.users_N[mask], features_NF=part.features_NF[mask]
        )

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels:
        redeemed_N = self.redeemed_N[mask]
        spend_N = redeemed_N * 20
        return Labels(redeemed_N, spend_N, spend_N - 4)

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        rows = np.zeros(len(self.redeemed_N), dtype=bool)
        rows[:5] = True
        return [lambda: self.examples(rows)] * min(count, self.num_requests), 5

    def with_outcomes(self, redeemed_N: NDArray[np.float32]) -> "World":
        return replace(self, redeemed_N=redeemed_N)


def world(seed: int = 0, *, num_users: int = NUM_USERS) -> World:
    """A world in which each user meets each of twelve monthly campaigns.

    The first feature holds the true log-odds, the second a noisy copy of them.
    """
    random = np.random.default_rng(seed)
    catalogue = replace(
        random_catalogue(random, num_campaigns=NUM_CAMPAIGNS),
        campaign_types=tuple("AB"[k % 2] for k in range(NUM_CAMPAIGNS)),
    )
    campaigns_N = np.repeat(np.arange(NUM_CAMPAIGNS), num_users).astype(np.int32)
    users_N = np.tile(np.arange(num_users), NUM_CAMPAIGNS).astype(np.int32)
    log_odds_N = -1.5 + random.normal(0, 1.2, num_users)[users_N] + random.normal(0, 0.8, len(users_N))
    rumour_N = 0.45 * log_odds_N - 0.7 + random.normal(0, 0.6, len(users_N))
    features_NF = np.stack([log_odds_N, rumour_N, random.normal(0, 1, len(users_N))], axis=1).astype(np.float32)
    starts = [START + timedelta(days=30 * int(k)) for k in campaigns_N]
    pairs = pa.table(
        {
            "user_id": [f"user-{u}" for u in users_N],
            "campaign_id": [f"campaign-{c}" for c in campaigns_N],
            "starts_at": pa.array(starts, pa.timestamp("us", tz="UTC")),
            "decided_at": pa.array(starts, pa.timestamp("us", tz="UTC")),
            "ends_at": pa.array([s + timedelta(days=40) for s in starts], pa.timestamp("us", tz="UTC")),
            "campaign_type": ["AB"[c % 2] for c in campaigns_N],
            "age_band": [("18-34", "35-54", None)[u % 3] for u in users_N],
        }
    )
    redeemed_N = (random.random(len(users_N)) < 1 / (1 + np.exp(-log_odds_N))).astype(np.float32)
    histories = random_histories(random, num_users=num_users)
    examples = Examples(
        catalogue=catalogue,
        campaigns_N=campaigns_N,
        users_N=users_N,
        features_NF=features_NF,
        feature_names=FEATURES,
        histories=histories,
    )
    return World(examples, pairs, redeemed_N)


def candidate(
    folder: Path,
    *,
    column: int,
    scale: float = 1.0,
    upside_down_in: str = "",
    fits: Sequence[str] = ("gate", "test", "live"),
    weight_mib: float = 0.0,
) -> Path:
    """A trained candidate whose fits all read `column`, as training leaves it."""
    moments = {"gate": GATE, "test": TEST, "live": AS_OF}
    ranker = ReadingRanker(column, scale, upside_down_in)
    for fit in fits:
        bundle.save(ranker, folder / "fits" / fit, lineage={"boundary": moments[fit].isoformat()})
        if weight_mib:
            (folder / "fits" / fit / "ballast").write_bytes(b"\0" * int(weight_mib * 2**20))
    identity = {
        "data_hash": "data-1",
        "training_hash": f"{column}-{scale}-{upside_down_in}",
        "ranker": "reading",
        "code_version": "1",
        "boundaries": {fit: moments[fit].isoformat() for fit in fits},
    }
    (folder / "lineage.json").write_text(json.dumps(identity))
    return folder
