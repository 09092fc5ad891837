"""A small shop that a gateway can serve at once: features, an online store, and optionally a champion."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from feature_repo import build_training_set, materialise
from recommender.datasets.synthetic import World, generate
from recommender.engine.context import FitContext
from recommender.features.build import build
from recommender.features.training_set import TrainingSet
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.registry import Registry, bundle
from recommender.settings import ServingSettings, Settings, TimeSettings
from serving import config
from serving.deployer.endpoint import Deployment, serve
from serving.deployer.torchserve import free_port

RANKER = "logistic"
"""The ranker of the default champion."""


@dataclass(frozen=True)
class Shop:
    """A shop with an online store."""

    settings: Settings
    users: list[str]
    catalogue: Catalogue

    @property
    def url(self) -> str:
        """The gateway's address."""
        return Deployment(self.settings).url


def make(folder: Path, *, num_users: int) -> Shop:
    """Generate the shop, compute its features at a moment with live campaigns, and train a champion."""
    tables = generate(World.small(num_users=num_users, days_between_baskets=24.0), folder / "tables")
    first = Catalogue.load(build(tables, folder / "first", as_of=tables.log_end, threads=1) / "catalogue")
    starts = [us for us in first.campaign_starts_C.tolist() if us < tables.log_end.timestamp() * 1e6 - 30 * 86_400e6]
    best_us = max(starts, key=lambda us: len(first.live(us + 1)))
    as_of = datetime.fromtimestamp(best_us / 1e6 + 3_600, UTC)
    features = build(tables, folder / "features", as_of=as_of, threads=1)
    ports = {name: free_port() for name in ("port", "inference_port", "management_port", "metrics_port")}
    serving = ServingSettings(engine="in_process", workers=1, **ports)
    settings = config.absolute(Settings(home=folder / "home", time=TimeSettings(as_of=as_of), serving=serving))
    materialise(features, settings)
    build_training_set(features, folder / "tables", settings, folder / "set")
    users = sorted(set(pq.read_table(features / "users.parquet", columns=["user_id"])["user_id"].to_pylist()))
    registry = Registry(settings.home)
    registry.promote(registry.add(_champion(TrainingSet.open(folder / "set"), folder / "candidate")))
    return Shop(settings, users, Catalogue.load(features / "catalogue"))


def _champion(data: TrainingSet, folder: Path) -> Path:
    mask, cls = data.decided_in(None, data.log_end), ranker_class(RANKER)
    fitted = cls.fit(
        data.examples(mask),
        data.labels_at(data.log_end, mask),
        corpus=data.corpus(data.log_end),
        config=cls.Config.parse({}, owner=RANKER),
        context=FitContext(),
    )
    lineage = {
        "data_hash": data.data_hash,
        "training_hash": "benchmark",
        "ranker": RANKER,
        "code_version": "benchmark",
        "boundaries": {"live": data.log_end.isoformat()},
    }
    bundle.save(fitted, folder / "fits" / "live", lineage=lineage)
    (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    return folder


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    """Serve the shop with its champion, and yield the gateway's address."""
    with serve(shop.settings) as deployment:
        yield deployment.url
