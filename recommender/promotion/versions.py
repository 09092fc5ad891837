"""The evaluation of versions in the registry, with its page: what the pipeline's step calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.evaluation.document import Evaluation, PeriodResult
from recommender.evaluation.evaluate import evaluate
from recommender.evaluation.judgement import read_judgement
from recommender.evaluation.metrics import METRICS
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.manifest import write_text


@dataclass(frozen=True)
class Measured:
    """An evaluation with what a pipeline's UI draws of it."""

    evaluation: Evaluation

    @property
    def metrics(self) -> dict[str, float]:
        """`<period>_<role>_<metric>` and `<period>_gain_<metric>`; what is undefined is left out."""
        found: dict[str, float] = {}
        for period, result in (("gate", self.evaluation.gate), ("test", self.evaluation.test)):
            if result is not None:
                found |= {f"{period}_{name}": value for name, value in self._of(result).items()}
        return found

    @property
    def roc_curve(self) -> tuple[list[float], list[float], list[float]]:
        """The challenger's (false positive rates, true positive rates, thresholds) in the gate period; all finite."""
        points = self.evaluation.gate.rankers[self.evaluation.challenger].roc
        wrong, found, thresholds = (list(part) for part in zip(*points, strict=True))
        return wrong, found, thresholds

    def _of(self, result: PeriodResult) -> dict[str, float]:
        roles = {"challenger": self.evaluation.challenger, "champion": self.evaluation.champion}
        values = {
            f"{role}_{metric}": result.rankers[name].metrics[metric].value
            for role, name in roles.items()
            for metric in METRICS
        }
        values |= {f"gain_{metric}": gain.value for metric, gain in result.gains.items()}
        return {name: value for name, value in values.items() if value is not None}


def evaluate_versions(
    training_set: Path,
    *,
    champion: str,
    challenger: str,
    others: Sequence[str] = (),
    settings: Settings,
    output: Path,
    page: Path | None = None,
) -> Measured:
    """Evaluate versions of the registry against one another, into `output`/evaluation.json and, as HTML, `page`.

    Raises as `evaluate`, and RegistryError for an unknown version.
    """
    from recommender.evaluation.verdict import decide
    from recommender.report.evaluation import evaluation_page

    registry = Registry(settings.home)
    versions = list(dict.fromkeys((challenger, champion, *others)))
    names = _names(registry, versions)
    evaluation = evaluate(
        training_set,
        {names[version]: registry.path(version) for version in versions},
        challenger=names[challenger],
        champion=names[champion],
        judgement=settings.judgement,
        settings=settings,
        output=output,
    )
    if page is not None:
        verdict = decide(evaluation, read_judgement(settings.judgement), earlier=registry.settled(challenger))
        write_text(page, evaluation_page(evaluation, verdict, source=settings.source.dataset.replace("_", " ")))
    return Measured(evaluation)


def _names(registry: Registry, versions: Sequence[str]) -> dict[str, str]:
    """A version is called by its ranker's name where that is unambiguous, else by its id."""
    rankers = [str(registry.lineage(version)["ranker"]) for version in versions]
    return {
        version: ranker if rankers.count(ranker) == 1 else version
        for version, ranker in zip(versions, rankers, strict=True)
    }
