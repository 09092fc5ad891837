"""What a ranker gains from further features or another setting, by rolling origin before the gate period."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.decision.rows import Row
from recommender.datasets.tables import Tables
from recommender.engine.context import FitContext
from recommender.evaluation.campaign_gains import pool
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.pairs import column, pairs_between
from recommender.features import build
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.matching.users_at import Floats
from recommender.models.campaign import ranker_class
from recommender.settings import Settings
from recommender.training.origins import End, spans_before
from recommender.training.train import boundaries, fit_at


def training_set(tables: Tables, place: Path, as_of: datetime, learn: datetime | None = None) -> TrainingSet:
    """The training set of tables, without Feast in between. What looks count is learnt from before `learn`."""
    built = build(tables, place / "features", as_of=as_of, facts=False, learn_looks_before=learn)
    users, pairs = (pq.read_table(built / name) for name in ("users.parquet", "pairs.parquet"))
    catalogue = Catalogue.load(built / "catalogue")
    return TrainingSet.open(write_training_set(users, pairs, catalogue, tables, place / "set", as_of=as_of))


def origins(data: TrainingSet, settings: Settings) -> list[tuple[datetime, datetime]]:
    """The origins before the gate period, and the moments up to which they are judged."""
    return spans_before(data, End("the gate period", boundaries(data, settings)["gate"]), None, ())


def gains(
    without: TrainingSet,
    more: TrainingSet,
    settings: Settings,
    name: str,
    *,
    ranker_name: str = "logistic",
    set_without: Mapping[str, Any] = MappingProxyType({}),
) -> list[Row]:
    """What a ranker gains from further features, by rolling origin before the gate period.

    Intervals are over users and campaigns, pooled over the origins.

    Args:
        without: the training set without the features.
        more: the one with them, or the same.
        settings: where the periods are from.
        name: what the ranker gains from, for the rows.
        ranker_name: the ranker.
        set_without: hyperparameters that differ from their defaults on `without`.
    """
    spans = origins(without, settings)
    ranker = ranker_class(ranker_name)
    configs = {"without": ranker.Config.parse(dict(set_without), owner=ranker_name), "with": ranker.Config()}
    scores: dict[str, list[Floats]] = {"without": [], "with": []}
    periods = []
    for starts, ends in spans:
        for key, of in (("without", without), ("with", more)):
            period = pairs_between(of, starts, ends, name="the origin", remedy="")
            context = FitContext(seed=settings.training.seed, device="cpu")
            fitted = fit_at(ranker, of, starts, configs[key], context)
            scores[key].append(fitted.score(period.examples).redeem_N.astype(np.float64))
        periods.append(period)
    users_N = np.concatenate([column(without, "user_id")[period.mask] for period in periods])
    users_N = np.unique(users_N, return_inverse=True)[1].astype(np.int64)
    labels_N = np.concatenate([period.labels.redeemed_N for period in periods]).astype(np.float64)
    campaigns_N = np.concatenate([period.examples.campaigns_N for period in periods]).astype(np.int64)
    scored = {key: ScoredPairs(labels_N, np.concatenate(parts), users_N) for key, parts in scores.items()}
    facts = {
        "origins": [f"{starts:%Y-%m-%d}" for starts, _ in spans],
        "judged_to": f"{spans[-1][1]:%Y-%m-%d}",
        "pairs": len(labels_N),
        "columns": len(more.all.feature_names) - len(without.all.feature_names),
    }
    rows = []
    for metric in ("log_loss", "auc", "ap"):
        names = dict(enumerate(without.catalogue.campaign_ids))
        found = pool(scored["with"], scored["without"], campaigns_N, names, metric, Bootstrap())
        if found is not None:
            interval = [round(edge, 4) for edge in found.interval(Bootstrap().confidence) or ()]
            row = f"gain of {ranker_name} from {name}: {metric}"
            rows.append(Row(name=row, value=found.value, goal="", facts={**facts, "interval": interval}))
    return rows
