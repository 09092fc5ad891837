"""Evaluates versions of the registry and writes the page about it, for a pipeline step."""

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
    """An evaluation with the figures that a pipeline's UI shows."""

    evaluation: Evaluation

    @property
    def metrics(self) -> dict[str, float]:
        """Figures named `<period>_<role>_<metric>` and `<period>_gain_<metric>`, without undefined ones."""
        figures: dict[str, float] = {}
        for period, result in (("gate", self.evaluation.gate), ("test", self.evaluation.test)):
            if result is not None:
                figures |= {f"{period}_{name}": value for name, value in self._of(result).items()}
        return figures

    @property
    def roc_curve(self) -> tuple[list[float], list[float], list[float]]:
        """The challenger's false positive rates, true positive rates and thresholds in the gate period, all finite."""
        points = self.evaluation.gate.rankers[self.evaluation.challenger].roc
        false_positive, true_positive, thresholds = (list(part) for part in zip(*points, strict=True))
        return false_positive, true_positive, thresholds

    @property
    def confusion_matrix(self) -> tuple[list[str], list[list[int]]]:
        """The challenger's in the gate period: names of the outcomes, and rows of true outcomes by what was said.

        It is at the first threshold of the judgement file. Without any threshold it is empty.
        """
        at = self.evaluation.gate.rankers[self.evaluation.challenger].at_thresholds[:1]
        rows = [
            [[one.true_negatives, one.false_positives], [one.false_negatives, one.true_positives]] for one in at
        ] or [[[0, 0], [0, 0]]]
        return ["takes no part", "takes part"], rows[0]

    def _of(self, result: PeriodResult) -> dict[str, float]:
        roles = {"challenger": self.evaluation.challenger, "champion": self.evaluation.champion}
        values = {
            f"{role}_{metric}": result.rankers[name].metrics[metric].value
            for role, name in roles.items()
            for metric in METRICS
        }
        values |= {f"gain_{metric}": gain.value for metric, gain in result.gains.items()}
        for role, name in roles.items():
            for at in result.rankers[name].at_thresholds:
                values[f"{role}_threshold_at_{at.rule}"] = at.threshold
                values |= {f"{role}_{metric}_at_{at.rule}": of.value for metric, of in at.metrics.items()}
        values["nobody_accuracy"] = None if result.nobody is None else result.nobody.value
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
    """Evaluate versions of the registry on the same pairs and write `evaluation.json`, and optionally a page.

    Args:
        training_set: folder of the training set.
        champion: version of the champion.
        challenger: version of the challenger.
        others: further versions that are shown beside them.
        settings: of the run.
        output: folder to write the evaluation to.
        page: HTML file to write.

    Raises:
        RegistryError: a version is unknown, or has no fit that ends before the gate period.
        PeriodError: the gate period has no pairs.
        LabelError: all pairs of the gate period have the same outcome.
        BundleError: the training set lacks features that a version was trained on.
        CorruptFileError: a bundle or the training set is damaged.
        SettingsError: the judgement file is not valid.
    """
    from recommender.evaluation.ledger import attempts
    from recommender.evaluation.readings import FINAL_TEST, gate_readings, log_reading, num_readings
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
    if evaluation.test is not None:
        log_reading(
            registry.readings,
            data=evaluation.data_hash,
            ranker=challenger,
            train_on="all before the final test",
            seed=settings.training.seed,
            facts={
                "kind": FINAL_TEST,
                "test_from": evaluation.test_from.isoformat(),
                "as_of": evaluation.as_of.isoformat(),
            },
        )
    if page is not None:
        known = attempts(registry.history(), evaluation.gate.starts, evaluation.gate.ends)
        verdict = decide(
            evaluation, read_judgement(settings.judgement), earlier=registry.settled(challenger), attempts=known
        )
        text = evaluation_page(
            evaluation,
            verdict,
            source=settings.source.dataset.replace("_", " "),
            attempts=known,
            num_readings=num_readings(registry.readings, since=evaluation.test_from),
            gate_readings=gate_readings(registry.readings, evaluation.gate.starts, evaluation.gate.ends),
        )
        write_text(page, text)
    return Measured(evaluation)


def _names(registry: Registry, versions: Sequence[str]) -> dict[str, str]:
    """Return a name for each version: its ranker's where that is unique, else its id."""
    rankers = [str(registry.lineage(version)["ranker"]) for version in versions]
    return {
        version: ranker if rankers.count(ranker) == 1 else version
        for version, ranker in zip(versions, rankers, strict=True)
    }
