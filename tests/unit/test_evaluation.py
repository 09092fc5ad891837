"""Tables lead to a verdict through real features, a real training set, trained rankers and the registry."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_examples import fit_ranker

from recommender import features
from recommender.datasets.periods import Periods, resolve
from recommender.datasets.synthetic import World, generate
from recommender.errors import CorruptFileError, RegistryError
from recommender.evaluation.document import Evaluation
from recommender.evaluation.evaluate import evaluate
from recommender.evaluation.list_results import LIST_METRICS
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.promotion.gate import judge
from recommender.promotion.versions import evaluate_versions
from recommender.registry import Registry, bundle
from recommender.settings import Settings


@dataclass(frozen=True)
class Shop:
    """A small world's training set, and the settings of a home beside it."""

    training_set: Path
    periods: Periods
    settings: Settings

    def candidate(self, folder: Path, prior_pairs: float) -> Path:
        """A popularity ranker, fitted at the three boundaries."""
        data = TrainingSet.open(self.training_set)
        moments = {"gate": self.periods.gate_from, "test": self.periods.test_from, "live": self.periods.as_of}
        for fit, boundary in moments.items():
            mask = data.decided_in(None, boundary)
            ranker = fit_ranker(
                "popularity",
                data.examples(mask),
                data.labels_at(boundary, mask),
                corpus=data.corpus(boundary),
                prior_pairs=prior_pairs,
            )
            bundle.save(ranker, folder / "fits" / fit, lineage={"boundary": boundary.isoformat()})
        lineage = {
            "data_hash": data.data_hash,
            "training_hash": str(prior_pairs),
            "ranker": "popularity",
            "code_version": "1",
            "boundaries": {fit: boundary.isoformat() for fit, boundary in moments.items()},
        }
        (folder / "lineage.json").write_text(json.dumps(lineage))
        return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    tables = generate(World.small(num_users=300), folder / "tables")
    judgement = folder / "judgement.toml"
    judgement.write_text("[gate]\nbootstrap_samples = 200\nmin_positives = 5\n[guardrails]\nmax_latency_ms = 1000\n")
    settings = Settings(home=folder / "var", judgement=judgement)
    periods = resolve(settings, tables)
    built = features.build(tables, folder / "features", as_of=periods.as_of, threads=1)
    training_set = write_training_set(
        pq.read_table(built / "users.parquet"),
        pq.read_table(built / "pairs.parquet"),
        Catalogue.load(built / "catalogue"),
        tables,
        folder / "training_set",
        as_of=periods.as_of,
        list_bounds=[periods.gate_from, periods.test_from, periods.as_of],
    )
    return Shop(training_set, periods, settings)


@pytest.fixture(scope="module")
def candidates(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("candidates")
    return {"new": shop.candidate(folder / "new", 10.0), "old": shop.candidate(folder / "old", 1e9)}


def test_periods_left_out_of_the_settings_are_chosen_from_the_tables(shop: Shop) -> None:
    assert shop.settings.time.gate_from is None
    assert shop.periods.gate_from < shop.periods.test_from < shop.periods.as_of


def test_an_evaluation_is_written_verified_and_the_same_again(
    shop: Shop, candidates: dict[str, Path], tmp_path: Path
) -> None:
    made = [
        evaluate(
            shop.training_set,
            candidates,
            challenger="new",
            champion="old",
            judgement=shop.settings.judgement,
            settings=shop.settings,
            output=tmp_path / name,
        )
        for name in ("first", "second")
    ]
    assert Evaluation.read(tmp_path / "first") == made[0]
    assert (made[0].gate, made[0].test) == (made[1].gate, made[1].test)
    assert made[0].candidates["new"].latency is not None
    assert made[0].gate.num_pairs > 100
    lists = made[0].gate.lists
    assert lists is not None
    assert lists.num_lists == made[0].gate.num_users
    assert set(lists.rankers) == {"new", "old"}

    document = tmp_path / "first" / "evaluation.json"
    document.write_text(document.read_text().replace('"num_pairs"', '"num_Pairs"', 1))
    with pytest.raises(CorruptFileError, match=r"evaluation\.json"):
        Evaluation.read(tmp_path / "first")


def test_every_judged_pair_belongs_to_a_campaign_that_no_fit_has_seen(
    shop: Shop, candidates: dict[str, Path], tmp_path: Path
) -> None:
    data = TrainingSet.open(shop.training_set)
    starts = np.array([t.timestamp() for t in data.pairs["starts_at"].to_pylist()])
    expected = (starts >= shop.periods.gate_from.timestamp()) & (starts < shop.periods.test_from.timestamp())
    trained = data.decided_in(None, shop.periods.gate_from)
    judged = evaluate(
        shop.training_set,
        candidates,
        challenger="new",
        champion="old",
        judgement=shop.settings.judgement,
        settings=shop.settings,
        output=tmp_path / "evaluation",
    )
    assert judged.gate.num_pairs == int((expected & ~trained).sum())


def test_versions_meet_through_the_registry_and_the_second_time_is_nothing_new(
    shop: Shop, candidates: dict[str, Path], tmp_path: Path
) -> None:
    settings = shop.settings.updated(home=tmp_path / "var")
    registry = Registry(settings.home)
    challenger, champion = registry.add(candidates["new"]), registry.add(candidates["old"])
    registry.promote(champion)
    page, output = tmp_path / "evaluation.html", tmp_path / "evaluation"
    measured = evaluate_versions(
        shop.training_set, champion=champion, challenger=challenger, settings=settings, output=output, page=page
    )
    verdict = judge(output, settings=settings, challenger=challenger)
    assert verdict.new
    assert verdict.decision in page.read_text()
    assert all(metric.title in page.read_text() for metric in LIST_METRICS.values())
    assert measured.metrics["gate_challenger_log_loss"] > 0
    judged = [event for event in registry.history() if event["what"] == "judged"]
    assert [(event["version"], event["verdict"]["decision"]) for event in judged] == [(challenger, verdict.decision)]
    if verdict.promotes:
        assert judge(output, settings=settings).new, "a verdict that nobody acted upon is given again"
        registry.start_canary(challenger, 0.1)
    again = judge(output, settings=settings)
    assert (again.decision, again.new) == ("HOLD", False)
    with pytest.raises(RegistryError, match=rf"{champion}.*{challenger}"):
        judge(output, settings=settings, challenger=champion)
