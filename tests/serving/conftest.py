"""One small trained and registered shop behind a real TorchServe and gateway, started once for all tests here."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from servers import free_ports

from recommender.datasets.contract import open_views
from recommender.datasets.tables import Tables
from recommender.decisions.log import find, folders_of
from recommender.engine.context import FitContext
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.registry import Registry, bundle
from recommender.settings import ServingSettings, Settings, TimeSettings
from recommender.storage.home import Home
from serving import config
from serving.deployer.endpoint import Deployment, serve


@dataclass(frozen=True)
class Shop:
    """A materialised shop: its feature set, its training set, its settings and a moment at which campaigns are live."""

    settings: Settings
    features: Path
    training_set: Path
    as_of: datetime
    tables: Tables

    @property
    def users(self) -> list[str]:
        import pyarrow.parquet as pq

        return sorted(set(pq.read_table(self.features / "users.parquet", columns=["user_id"])["user_id"].to_pylist()))

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue.load(Home.of(self.settings).catalogue)

    def taken_up(self) -> set[tuple[str, str]]:
        """Users and the live campaigns that they had taken up by `as_of`, read from the log."""
        live = ", ".join(f"'{campaign_id}'" for campaign_id in self.live())
        with open_views(self.tables) as connection:
            rows = connection.execute(
                f"SELECT DISTINCT user_id, campaign_id FROM participations WHERE campaign_id IN ({live}) "
                "AND participated_at < ?",
                [self.as_of],
            ).fetchall()
        return {(user_id, campaign_id) for user_id, campaign_id in rows}

    def live(self) -> list[str]:
        rows = self.catalogue.live(round(self.as_of.timestamp() * 1e6))
        return [self.catalogue.campaign_ids[row] for row in rows]


def serving_settings(**changes: Any) -> ServingSettings:
    """Own ports, one worker a version (they start in half of the time), and patience for a busy machine.

    What a deadline and a second worker do is tested where it is the point.
    """
    ports = dict(zip(("port", "inference_port", "management_port", "metrics_port"), free_ports(4), strict=True))
    return ServingSettings(**{**ports, "workers": 1, "deadline_ms": 5_000, "store_deadline_ms": 2_000, **changes})


def with_serving(settings: Settings, **changes: Any) -> Settings:
    return settings.updated(**changes)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A synthetic shop, through the real features and the real feature store."""
    from benchmarks.served_shop import busiest_moment
    from feature_repo import build_training_set, materialise
    from recommender.datasets.synthetic import World, generate
    from recommender.features.build import build

    root = tmp_path_factory.mktemp("shop")
    tables = generate(World.small(num_users=1000, days_between_baskets=24.0), root / "tables")
    as_of = busiest_moment(tables)
    features = build(tables, root / "features", as_of=as_of, threads=1)
    settings = config.absolute(
        with_serving(Settings(), home=root / "home", time=TimeSettings(as_of=as_of), serving=serving_settings())
    )
    materialise(features, settings)
    build_training_set(features, root / "tables", settings, root / "set")
    return Shop(settings, features, root / "set", as_of, tables)


def candidate(shop: Shop, folder: Path, *, ranker: str = "logistic", **hyper: Any) -> Path:
    """Train a ranker on the shop and lay it out as the training step does."""
    from recommender.features.training_set import TrainingSet

    data = TrainingSet.open(shop.training_set)
    mask = data.decided_in(None, data.log_end)
    cls = ranker_class(ranker)
    fitted = cls.fit(
        data.examples(mask),
        data.labels_at(data.log_end, mask),
        corpus=data.corpus(data.log_end),
        config=cls.Config.parse(hyper, owner=ranker),
        context=FitContext(),
    )
    lineage = {
        "data_hash": data.data_hash,
        "training_hash": json.dumps(hyper, sort_keys=True),
        "ranker": ranker,
        "code_version": "test",
        "boundaries": {"live": data.log_end.isoformat()},
    }
    bundle.save(fitted, folder / "fits" / "live", lineage=lineage)
    (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint and a client of it."""

    shop: Shop
    settings: Settings
    deployment: Deployment
    client: httpx.Client

    def ask(self, **request: Any) -> httpx.Response:
        return self.client.post("/v1/recommendations", json=request)

    def send(self, body: bytes, path: str = "/v1/recommendations") -> httpx.Response:
        return self.client.post(path, content=body, headers={"Content-Type": "application/json"})

    def decision(self, request_id: str) -> dict[str, Any]:
        return find(folders_of(self.settings), request_id)

    def predict(self, request: dict[str, Any]) -> httpx.Response:
        url = f"http://127.0.0.1:{self.settings.serving.inference_port}/predictions/campaign_ranker"
        return self.client.post(url, json=request, timeout=10)  # an absolute address: past the gateway


@pytest.fixture(scope="session")
def endpoint(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The shop's endpoint: a champion, and a canary for half of the users."""
    registry, folder = Registry(shop.settings.home), tmp_path_factory.mktemp("candidates")
    champion = registry.add(candidate(shop, folder / "a"))
    canary = registry.add(candidate(shop, folder / "b", strength=0.001))
    registry.promote(champion)
    registry.start_canary(canary, 0.5)
    with serve(shop.settings) as deployment, httpx.Client(base_url=deployment.url, timeout=20) as client:
        yield Endpoint(shop, shop.settings, deployment, client)


@pytest.fixture
def home(shop: Shop, tmp_path: Path) -> Settings:
    """A copy of the shop's home that a test may damage, with separate ports and no registry yet."""
    target = tmp_path / "home"
    target.mkdir()
    theirs, ours = Home.of(shop.settings), Home(target)
    shutil.copytree(theirs.feature_store.root, ours.feature_store.root)
    shutil.copytree(theirs.catalogue, ours.catalogue)
    serving = serving_settings()
    return config.absolute(with_serving(shop.settings, home=target, serving=serving))


def float32(encoded: dict[str, Any]) -> np.ndarray:
    import base64

    values = np.frombuffer(base64.b64decode(encoded["float32_base64"]), "<f4")
    return values.reshape(encoded["shape"])
