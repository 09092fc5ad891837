"""Reads the last run's published results below `home`/published: evaluation, verdict and pages."""

from dataclasses import dataclass
from pathlib import Path

from recommender.errors import RegistryError
from recommender.evaluation.document import Evaluation
from recommender.evaluation.verdict import Verdict
from recommender.storage.home import Home
from recommender.storage.published import Origin, origin_of


@dataclass(frozen=True)
class LastRun:
    """The published results of the last run that was evaluated."""

    home: Home

    @property
    def pages(self) -> dict[str, Path]:
        """HTML pages that exist, by their subject. A failed run has published those of the steps before its failure."""
        names = self.home.published
        named = {
            "data validation": names.validation_page,
            "training": names.training_page,
            "evaluation": names.evaluation_page,
        }
        return {title: path for title, path in named.items() if path.is_file()}

    def verdict(self) -> Verdict:
        """Read the gate's verdict.

        Raises:
            RegistryError: no run has published one yet. Names the command that does.
            CorruptFileError: it was altered.
        """
        return Verdict.read(self._existing(self.home.published.verdict))

    def evaluation(self) -> Evaluation:
        """Read the evaluation of challenger, champion and baselines.

        Raises:
            RegistryError: no run has published one yet. Names the command that does.
            CorruptFileError: it was altered.
        """
        return Evaluation.read(self._existing(self.home.published.evaluation))

    def origin(self) -> Origin | None:
        """Return the run and data of verdict and evaluation, or None if a killed run left those of two runs."""
        names = self.home.published
        evaluation, verdict = origin_of(names, names.evaluation), origin_of(names, names.verdict)
        same = evaluation is not None and verdict is not None and evaluation.run == verdict.run
        return evaluation if same else None

    def _existing(self, path: Path) -> Path:
        if not path.exists():
            raise RegistryError(f"{path}: no run has been evaluated yet; start with: recommender run")
        return path
