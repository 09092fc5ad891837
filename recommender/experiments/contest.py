"""A contest: trained candidates enter the registry, are compared with the champion, and the gate judges the challenger.

There is a champion from the first day: the last baseline of the first run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.candidates import lineage
from recommender.evaluation import evaluate
from recommender.evaluation.document import Evaluation
from recommender.evaluation.judgement import read_judgement
from recommender.experiments.gate import Verdict, decide
from recommender.manifest import write_text
from recommender.registry import Registry
from recommender.report.evaluation import evaluation_page
from recommender.settings import Settings


@dataclass(frozen=True)
class Entry:
    """Version ids of one run's contest. `others`: baselines that are neither champion nor challenger."""

    champion: str
    challenger: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Contest:
    """What an evaluation compares: folders by the names that tables and pages show, and which two are judged."""

    candidates: Mapping[str, Path]
    challenger: str
    champion: str


def enter(registry: Registry, *, baselines: Sequence[Path], challenger: Path) -> Entry:
    """Add the trained candidates to the registry; where there is no champion yet, the last baseline becomes it.

    Raises:
        CorruptFileError: a candidate's bundle is damaged.
        RegistryError: a candidate's lineage does not identify it.
    """
    entered = [registry.add(baseline) for baseline in baselines]
    challenging = registry.add(challenger)
    champion = registry.champion()
    if champion is None:
        champion = entered[-1]
        registry.promote(champion, reason="the first champion: the strongest baseline stands until it is beaten")
    others = tuple(version for version in dict.fromkeys(entered) if version not in (champion, challenging))
    return Entry(champion, challenging, others)


def contest(registry: Registry, *, champion: str, challenger: str, others: Sequence[str]) -> Contest:
    """Name the versions of an entry by their rankers; a champion whose ranker's name is taken is called `<ranker> (champion)`.

    Raises:
        RegistryError: a version is not in the registry.
    """
    candidates: dict[str, Path] = {}
    names: dict[str, str] = {}
    for version in dict.fromkeys((challenger, *others, champion)):
        folder = registry.path(version)
        ranker = str(lineage(folder)["ranker"])
        names[version] = ranker if ranker not in candidates else f"{ranker} (champion)"
        candidates[names[version]] = folder
    return Contest(candidates, names[challenger], names[champion])


def compare(training_set: Path, entry: Entry, *, settings: Settings, output: Path) -> Evaluation:
    """Measure an entry's versions on the same pairs; the evaluation is written to the folder `output`.

    Raises: what `evaluation.evaluate` raises.
    """
    met = contest(Registry(settings.home), champion=entry.champion, challenger=entry.challenger, others=entry.others)
    return evaluate(
        training_set,
        met.candidates,
        challenger=met.challenger,
        champion=met.champion,
        judgement=settings.judgement,
        settings=settings,
        output=output,
    )


def judge(evaluation: Path, *, settings: Settings, page: Path) -> Verdict:
    """The gate's verdict on an evaluation, kept in the registry's history when it says something new; both on one page."""
    registry, measured = Registry(settings.home), Evaluation.read(evaluation)
    version = measured.candidates[measured.challenger].version
    judgement = read_judgement(settings.judgement)
    verdict = decide(measured, judgement, earlier=registry.settled(version))
    if verdict.new:
        registry.record_verdict(version, verdict.model_dump())
    write_text(page, evaluation_page(measured, verdict))
    return verdict


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The gate period's and the final test's figures as flat numbers: `gate_auc_transformer`, `test_log_loss_logistic`, …"""
    periods = {"gate": evaluation.gate, "test": evaluation.test}
    return {
        f"{period}_{metric}_{name.split()[0]}": estimate.value
        for period, result in periods.items()
        if result is not None
        for name, ranker in result.rankers.items()
        for metric, estimate in ranker.metrics.items()
        if estimate.value is not None
    }
