"""A small made-up shop with a champion, behind a real TorchServe and gateway."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from feature_repo import build_training_set, materialise
from recommender.datasets.synthetic import World, generate
from recommender.engine.context import FitContext
from recommender.features.build import build
from recommender.features.training_set import TrainingSet
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.registry import Registry, bundle
from recommender.settings import Settings
from serving import config
from serving.deployer.endpoint import serve
from serving.deployer.torchserve import free_port

RANKER = "logistic"
DEADLINE_MS = 5_000
"""Nothing here is about lateness: a busy machine must not turn answers of the model into popular lists."""
PORTS = ("port", "inference_port", "management_port", "metrics_port")


@contextmanager
def small_shop(folder: Path) -> Iterator[Settings]:
    """Make the shop in an empty folder, train its champion, and run its endpoint for as long as the block lasts.

    It demands the secret `token` where the environment has one.
    """
    tables = generate(World.small(num_users=1000, days_between_baskets=24.0), folder / "tables")
    first = build(tables, folder / "first", as_of=tables.log_end, threads=1)
    as_of = _busiest_moment(Catalogue.load(first / "catalogue"), tables.log_end)
    features = build(tables, folder / "features", as_of=as_of, threads=1)
    serving = {**{name: free_port() for name in PORTS}, "deadline_ms": DEADLINE_MS, "store_deadline_ms": 2_000}
    settings = config.absolute(Settings().updated(home=folder / "home", time={"as_of": as_of}, serving=serving))
    materialise(features, settings)
    build_training_set(features, folder / "tables", settings, folder / "set")
    registry = Registry(settings.home)
    registry.promote(registry.add(_candidate(folder / "set", folder / "candidate")))
    with serve(settings):
        yield settings


def _busiest_moment(catalogue: Catalogue, last: datetime) -> datetime:
    """An hour after the campaign's start at which most campaigns are live, a month before the log's end."""
    starts = catalogue.campaign_starts_C[catalogue.campaign_starts_C < last.timestamp() * 1e6 - 30 * 86_400e6]
    best = max(starts.tolist(), key=lambda us: len(catalogue.live(us + 1)))
    return datetime.fromtimestamp(best / 1e6 + 3_600, UTC)


def _candidate(training_set: Path, folder: Path) -> Path:
    """A trained ranker, laid out as the training step does."""
    data = TrainingSet.open(training_set)
    mask = data.decided_in(None, data.log_end)
    cls = ranker_class(RANKER)
    fitted = cls.fit(
        data.examples(mask),
        data.labels_at(data.log_end, mask),
        corpus=data.corpus(data.log_end),
        config=cls.Config.parse({}, owner=RANKER),
        context=FitContext(),
    )
    boundaries = {"live": data.log_end.isoformat()}
    lineage = {
        "data_hash": data.data_hash,
        "training_hash": "{}",
        "ranker": RANKER,
        "code_version": "fuzz",
        "boundaries": boundaries,
    }
    bundle.save(fitted, folder / "fits" / "live", lineage=lineage)
    (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    return folder
