"""One run of the training pipeline on this machine, and what it leaves for people in `home`/reports."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipelines.compile import compile_local, run_arguments
from pipelines.local import LocalRun, run_pipeline
from pipelines.memory import MemoryWatch
from pipelines.preflight import check_before_run
from recommender.datasets.identity import source_identity
from recommender.errors import RegistryError, StepFailed
from recommender.evaluation.document import Evaluation
from recommender.evaluation.verdict import Verdict
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.manifest import MANIFEST, read_manifest

REPORTS = (
    ("validate-data", "page", "validation.html"),
    ("evaluate", "page", "evaluation.html"),
    ("gate", "verdict", "verdict.json"),
    ("evaluate", "evaluation", "evaluation"),
)
"""Step, artifact, and the name it gets in `home`/reports."""


@dataclass(frozen=True)
class Reports:
    """What the last run left for people, below `home`/reports."""

    folder: Path

    @property
    def pages(self) -> dict[str, Path]:
        """The HTML pages that exist, by what they show."""
        named = {"data validation": self.folder / "validation.html", "evaluation": self.folder / "evaluation.html"}
        return {title: path for title, path in named.items() if path.is_file()}

    def verdict(self) -> Verdict:
        """The gate's last verdict.

        Raises:
            CorruptFileError: there is none yet.
        """
        return Verdict.read(self.folder / "verdict.json")

    def evaluation(self) -> Evaluation:
        """The last evaluation.

        Raises:
            RegistryError: there is none yet.
            CorruptFileError: it was altered.
        """
        if not (self.folder / "evaluation").is_dir():
            raise RegistryError(f"{self.folder}: no run has been evaluated yet; start with: recommender run")
        return Evaluation.read(self.folder / "evaluation")


def reports(settings: Settings) -> Reports:
    """Where the reports of these settings' runs are."""
    return Reports(settings.home / "reports")


def last_training_set(settings: Settings) -> Path:
    """The training set that the newest run on this machine built.

    Raises:
        RegistryError: no run has built one yet.
    """
    from recommender.features import training_set as sets

    newest = sets.last_training_set(settings.home)
    if newest is None:
        raise RegistryError(
            f"{settings.home / 'kfp'}: no run has built a training set yet; start with: recommender run"
        )
    return newest


def run_training(settings: Settings, *, console: Console, memory: MemoryWatch, caching: bool = True) -> LocalRun:
    """Run the whole training pipeline here; its pages are in `reports(settings)` afterwards, those of a failed run too.

    Raises:
        StepFailed: a step failed, with its own message.
        SourceError: the source is missing.
        SettingsError, DeviceError: the settings cannot be run, here.
    """
    identity = source_identity(settings.source)
    check_before_run(settings)
    if settings.training.device != "cpu":
        from recommender.engine.context import FitContext
        from recommender.engine.loop import device_of

        device_of(FitContext(device=settings.training.device))
    spec = compile_local(settings, settings.home / "kfp" / "training.yaml", identified_source=True)
    arguments = run_arguments(settings, identity)
    try:
        run = run_pipeline(spec, arguments, home=settings.home, console=console, memory=memory, caching=caching)
    except StepFailed as failed:
        if failed.root is not None:
            _publish(failed.root, settings)
        raise
    _publish(run.root, settings)
    return run


def _publish(root: Path, settings: Settings) -> None:
    """Copy what people read. A validation that came from the cache shows the page of the run that made its tables."""
    folder = settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    for step, name, target in REPORTS:
        for made in root.glob(f"*/{step}/{name}"):
            if made.is_dir():
                shutil.rmtree(folder / target, ignore_errors=True)
                shutil.copytree(made, folder / target)
            else:
                shutil.copyfile(made, folder / target)
    if not any(root.glob("*/validate-data/page")) and (page := _page_of_validated(root, settings)):
        shutil.copyfile(page, folder / "validation.html")


def _page_of_validated(root: Path, settings: Settings) -> Path | None:
    """The newest validation page of the tables that this run's verdict rests on."""
    verdict = next(root.glob("*/gate/verdict"), None)
    if verdict is None:
        return None
    data_hash = Registry(settings.home).lineage(Verdict.read(verdict).challenger)["data_hash"]
    pages = [
        step / "page"
        for step in (settings.home / "kfp").glob("*/*/validate-data")
        if (step / "page").is_file()
        and (step / "tables" / MANIFEST).is_file()
        and read_manifest(step / "tables", verify=False)["content_hash"] == data_hash
    ]
    return max(pages, key=lambda page: page.stat().st_mtime, default=None)
