"""A small made-up shop that an endpoint can serve at once: features, an online store, and a trained champion."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from feature_repo import build_training_set, materialise
from recommender.datasets.contract import open_views
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import Tables
from recommender.engine.context import FitContext
from recommender.features.build import build
from recommender.features.training_set import TrainingSet
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.registry import Registry, bundle
from recommender.settings import ServingSettings, Settings, StoreSettings, TimeSettings
from serving import config
from serving.deployer.endpoint import Deployment, serve
from serving.deployer.torchserve import free_port

RANKER = "logistic"
"""The ranker of the champion."""
PORTS = ("port", "inference_port", "management_port", "metrics_port")


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


def make(folder: Path, *, num_users: int, store: StoreSettings | None = None, **serving: Any) -> Shop:
    """Generate the shop, compute its features at a moment with live campaigns, and train a champion.

    Args:
        folder: an empty one.
        num_users: of the shop.
        store: the online store. None: SQLite, below the folder.
        serving: settings of `[serving]` other than the ports, which are free ones.
    """
    tables = generate(World.small(num_users=num_users, days_between_baskets=24.0), folder / "tables")
    as_of = busiest_moment(tables)
    features = build(tables, folder / "features", as_of=as_of, threads=1)
    chosen = ServingSettings(**{**{name: free_port() for name in PORTS}, **serving})
    settings = Settings(home=folder / "home", time=TimeSettings(as_of=as_of), serving=chosen)
    settings = config.absolute(settings if store is None else settings.model_copy(update={"store": store}))
    materialise(features, settings)
    build_training_set(features, folder / "tables", settings, folder / "set")
    users = sorted(set(pq.read_table(features / "users.parquet", columns=["user_id"])["user_id"].to_pylist()))
    registry = Registry(settings.home)
    registry.promote(registry.add(_champion(TrainingSet.open(folder / "set"), folder / "candidate")))
    return Shop(settings, users, Catalogue.load(features / "catalogue"))


def busiest_moment(tables: Tables) -> datetime:
    """An hour after the campaign's start at which most campaigns are live, a month or more before the log's end."""
    with open_views(tables) as connection:
        windows = connection.execute(
            "SELECT epoch_us(starts_at), epoch_us(ends_at) FROM campaigns ORDER BY 1"
        ).fetchall()
    early_us = [starts_us for starts_us, _ in windows if starts_us < tables.log_end.timestamp() * 1e6 - 30 * 86_400e6]
    best_us = max(early_us, key=lambda us: sum(starts <= us + 1 < ends for starts, ends in windows))
    return datetime.fromtimestamp(best_us / 1e6 + 3_600, UTC)


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
