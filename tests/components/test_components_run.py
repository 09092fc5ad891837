"""Every component writes, logs and returns what it should when it is called without a runner on one small shop."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.build_features import build_features
from components.build_training_set import build_training_set
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.hold import hold
from components.ingest import ingest
from components.materialise import materialise
from components.monitor import monitor
from components.publish_evaluation import publish_evaluation
from components.publish_training_set import publish_training_set
from components.register import register
from components.require_limits import require_limits
from components.train_ranker import train_ranker
from components.validate_data.component import validate_data
from recommender.datasets.tables import open_tables
from recommender.days import DayStore
from recommender.errors import LimitBroken
from recommender.evaluation.document import Evaluation
from recommender.features.training_set import TrainingSet
from recommender.matching.catalogue import Catalogue
from recommender.registry import Registry
from recommender.report.last_run import LastRun
from recommender.settings import Settings, SourceSettings, TrainingSettings
from recommender.storage.home import Home
from recommender.storage.ids import IdsFile
from recommender.storage.published import origin_of, published_training_set

CODE = "test"
SMALL = {"num_users": 400, "num_items": 120, "num_campaigns": 20, "num_categories": 8, "days": 240}


@dataclass
class Shop:
    """A shop on its way through the components."""

    folder: Path
    settings: Settings

    @property
    def text(self) -> str:
        return self.settings.model_dump_json()

    def made(self, kind: Callable[..., Any], name: str) -> Any:
        artifact = kind(name=name, uri=str(self.folder / name), metadata={})
        Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
        return artifact


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Run all components once, in the pipeline's order. Each test looks at one of them."""
    folder = tmp_path_factory.mktemp("shop")
    judgement = folder / "judgement.toml"
    judgement.write_text("[gate]\nbootstrap_samples = 200\nmin_positives = 5\n")
    shop = Shop(
        folder,
        Settings(
            home=folder / "home",
            judgement=judgement,
            source=SourceSettings(dataset="synthetic", synthetic=SMALL),
            training=TrainingSettings(challenger="logistic", baselines=("popularity",), threads=1),
        ),
    )
    made, text = shop.made, shop.text
    raw, ingested = made(dsl.Dataset, "raw"), made(dsl.Metrics, "ingested")
    data_hash = ingest.python_func(settings=text, source_identity="", code_version=CODE, tables=raw, metrics=ingested)
    tables, page, checked = made(dsl.Dataset, "tables"), made(dsl.HTML, "page"), made(dsl.Metrics, "checked")
    key = {"settings": text, "code_version": CODE}
    clean_hash = validate_data.python_func(
        **key, source_identity="", data_hash=data_hash, raw=raw, tables=tables, page=page, metrics=checked
    )
    key["data_hash"] = clean_hash
    features, training_set = made(dsl.Dataset, "features"), made(dsl.Dataset, "training_set")
    build_features.python_func(**key, tables=tables, features=features)
    stored = materialise.python_func(settings=text, data_hash=clean_hash, features=features)
    build_training_set.python_func(**key, features=features, tables=tables, training_set=training_set)
    from_run = {"settings": text, "run": "run-1", "data_hash": clean_hash}
    publish_training_set.python_func(**from_run, training_set=training_set, validation_page=page)
    fits = {}
    # In a ParallelFor, kfp.local passes the loop's item as data_hash.
    for ranker, data_hash in (("popularity", "popularity"), ("logistic", key["data_hash"])):
        model, metrics = made(dsl.Model, f"fits-{ranker}"), made(dsl.Metrics, f"trained-{ranker}")
        curves = made(dsl.HTML, f"curves-{ranker}")
        train_ranker.python_func(
            **key | {"data_hash": data_hash},
            ranker=ranker,
            training_set=training_set,
            fits=model,
            page=curves,
            metrics=metrics,
        )
        fits[ranker] = (model, metrics)
    entered = register.python_func(settings=text, baselines=[fits["popularity"][0]], challenger=fits["logistic"][0])
    champion, challenger, others = entered
    outputs = {
        "evaluation": made(dsl.Dataset, "evaluation"),
        "page": made(dsl.HTML, "evaluation-page"),
        "metrics": made(dsl.Metrics, "measured"),
        "roc": made(dsl.ClassificationMetrics, "roc"),
    }
    versions = {"champion": champion, "challenger": challenger, "others": others}
    evaluate.python_func(settings=text, training_set=training_set, **versions, **outputs)
    note, verdict = made(dsl.Markdown, "note"), made(dsl.Dataset, "verdict")
    judged = gate.python_func(
        settings=text, challenger=challenger, evaluation=outputs["evaluation"], note=note, verdict=verdict
    )
    publish_evaluation.python_func(
        **from_run,
        evaluation=outputs["evaluation"],
        verdict=verdict,
        evaluation_page=outputs["page"],
        training_page=curves,
    )
    return SimpleNamespace(**locals())


def test_ingest_writes_tables_and_returns_their_hash(way: SimpleNamespace) -> None:
    assert open_tables(Path(way.raw.path)).data_hash == way.data_hash
    assert way.ingested.metadata["users_rows"] > 0
    assert way.raw.metadata["data_hash"] == way.data_hash


def test_validate_data_writes_clean_tables_and_a_page_that_loads_nothing(way: SimpleNamespace) -> None:
    assert open_tables(Path(way.tables.path)).data_hash == way.clean_hash
    html = Path(way.page.path).read_text()
    assert "<html" in html
    assert "://" not in html.replace("http://www.w3.org", "")
    assert way.checked.metadata


def test_validate_data_puts_the_daily_partitions_of_what_ingest_read_into_force(way: SimpleNamespace) -> None:
    store = DayStore.of(way.shop.settings)
    partitions = [pq.read_metadata(store.path(one)).num_rows for one in store.read().days.values()]
    assert sum(partitions) == way.ingested.metadata["events_rows"]


def test_build_features_and_materialise_fill_the_home(way: SimpleNamespace) -> None:
    assert (Path(way.features.path) / "users.parquet").is_file()
    assert way.stored == way.clean_hash
    catalogue = Catalogue.load(Home.of(way.shop.settings).catalogue)
    kept = IdsFile.of(way.shop.settings).read()
    assert catalogue.id_versions == kept.versions
    assert catalogue.item_ids == kept.of("product")


def test_monitor_publishes_a_report_and_the_next_step_fails_the_run_where_a_limit_is_broken(
    way: SimpleNamespace,
) -> None:
    shop, made = way.shop, way.shop.made
    report, page, metrics = made(dsl.Dataset, "report"), made(dsl.HTML, "monitored"), made(dsl.Metrics, "found")
    monitor.python_func(
        settings=shop.text,
        run="run-2",
        features=way.features,
        tables=way.tables,
        report=report,
        page=page,
        metrics=metrics,
    )
    names = Home.of(shop.settings).monitoring
    assert names.report.read_text() == Path(report.path).read_text()
    assert names.page.read_text() == Path(page.path).read_text()
    # The world lies in the past, so its events are too old.
    assert metrics.metadata["limits_broken"] == 2
    with pytest.raises(SystemExit) as stopped:
        require_limits.python_func(report=report)
    assert isinstance(stopped.value.__cause__, LimitBroken)


def test_train_ranker_writes_fits_and_logs_its_figures(way: SimpleNamespace) -> None:
    for model, metrics in way.fits.values():
        assert {path.name for path in (Path(model.path) / "fits").iterdir()} == {"gate", "test", "live"}
        assert model.metadata["data_hash"] == way.clean_hash
        assert metrics.metadata
    assert "logistic is not trained in steps" in Path(way.curves.path).read_text()


def test_the_last_baseline_is_the_first_champion(way: SimpleNamespace) -> None:
    assert Registry(way.shop.settings.home).champion() == way.champion
    assert way.champion.startswith("popularity-")
    assert way.challenger.startswith("logistic-")
    assert way.others == []


def test_evaluate_logs_metrics_and_a_curve_that_is_valid_json(way: SimpleNamespace) -> None:
    logged = way.outputs["metrics"].metadata
    assert 0.5 < logged["gate_challenger_auc"] <= 1
    json.dumps(way.outputs["roc"].metadata, allow_nan=False)
    assert "<html" in Path(way.outputs["page"].path).read_text()


def test_gate_returns_its_decision_and_the_reason_in_words(way: SimpleNamespace) -> None:
    decision, reason = way.judged
    assert decision in ("PROMOTE", "HOLD")
    assert len(reason) > 20
    assert decision in Path(way.note.path).read_text()
    assert json.loads(Path(way.verdict.path).read_text())["decision"] == decision


def test_artifacts_name_the_data_the_models_and_the_verdict_that_they_belong_to(way: SimpleNamespace) -> None:
    versions = {"champion": way.champion, "challenger": way.challenger}
    assert way.tables.metadata == {"data_hash": way.clean_hash, "made_from": way.data_hash}
    assert way.features.metadata["data_hash"] == way.clean_hash
    assert way.training_set.metadata == {"data_hash": way.clean_hash}
    fitted = way.fits["logistic"][0].metadata
    assert (fitted["ranker"], fitted["data_hash"]) == ("logistic", way.clean_hash)
    assert len(fitted["training_hash"]) == 64
    assert len(fitted["code_version"]) == 12
    assert way.outputs["evaluation"].metadata == {**versions, "data_hash": way.clean_hash}
    assert way.verdict.metadata == {**versions, "decision": way.judged[0], "data_hash": way.clean_hash}


def test_what_later_commands_read_is_published_with_the_run_and_the_data_it_came_from(way: SimpleNamespace) -> None:
    home = Home.of(way.shop.settings)
    assert TrainingSet.open(published_training_set(home)).data_hash == way.clean_hash
    last = LastRun(home)
    assert last.evaluation() == Evaluation.read(Path(way.outputs["evaluation"].path))
    assert last.verdict().decision == way.judged[0]
    assert {page.name for page in last.pages.values()} == {"validation.html", "training.html", "evaluation.html"}
    names = home.published
    for name in (names.training_set, names.evaluation, names.verdict, *last.pages.values()):
        origin = origin_of(names, name)
        assert origin is not None
        assert (origin.run, origin.data_hash) == ("run-1", way.clean_hash)


def test_deploy_makes_the_challenger_the_canary(way: SimpleNamespace) -> None:
    note = way.made(dsl.Markdown, "deployed")
    deploy.python_func(settings=way.text, version=way.challenger, reason="better", note=note)
    canary = Registry(way.shop.settings.home).canary()
    assert canary is not None
    assert canary.version == way.challenger
    assert canary.share == way.shop.settings.serving.canary_share
    assert way.challenger in Path(note.path).read_text()


def test_hold_says_who_stays_and_why(way: SimpleNamespace) -> None:
    note = way.made(dsl.Markdown, "held")
    hold.python_func(champion=way.champion, challenger=way.challenger, reason="not better", note=note)
    assert way.champion in Path(note.path).read_text()
    assert "not better" in Path(note.path).read_text()


def test_trials_search_before_the_gate_and_the_best_one_is_trained(way: SimpleNamespace) -> None:
    settings = way.shop.settings.updated(training={"trials": 2})
    fits, page, metrics = (
        way.made(dsl.Model, "tried"),
        way.made(dsl.HTML, "tried-page"),
        way.made(dsl.Metrics, "tried-m"),
    )
    inputs = {"code_version": CODE, "data_hash": way.clean_hash, "ranker": "logistic", "training_set": way.training_set}
    train_ranker.python_func(settings=settings.model_dump_json(), **inputs, fits=fits, page=page, metrics=metrics)
    found = json.loads(Home.of(settings).study("logistic").with_suffix(".json").read_text())
    assert len(found["trials"]) == 2
    lineage = json.loads((Path(fits.path) / "lineage.json").read_text())
    assert lineage["config"] == found["best"]
    assert fits.metadata["training_hash"] != way.fits["logistic"][0].metadata["training_hash"]


MIB = 2**20
LOADS = re.compile(
    r"""<(?:script|img|iframe|link)[^>]+(?:src|href)=["'](?!data:|#)|@import|url\((?!["']?(?:data:|#))"""
)
"""What makes a browser load something from elsewhere."""


def test_every_page_loads_nothing_and_is_smaller_than_a_mebibyte(way: SimpleNamespace) -> None:
    for page in (way.page, way.curves, way.outputs["page"]):
        html = Path(page.path).read_text(encoding="utf-8")
        assert len(html.encode()) < MIB
        assert not LOADS.search(html)
    assert LOADS.search('<script defer src="https://cdn.example.org/x.js">')
