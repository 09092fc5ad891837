"""Output paths of a fit, a search or a benchmark. All are checked before anything is fitted."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recommender.engine.search import require_study
from recommender.engine.torchrun import started
from recommender.errors import SettingsError
from recommender.models.next_item import item_ranker_class
from recommender.models.next_item.export import require_exportable
from recommender.registry.bundle import require_replaceable
from recommender.storage.manifest import require_apart, require_folder_takes_files, require_writable
from recommender.training.next_items.request import FitRequest


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files and folders to write. None: not wanted.

    Attributes:
        report: The report (JSON) or the best hyperparameters of a search (TOML or JSON).
        readings: The log that records each reading of the test items.
        checkpoints: The folder of checkpoints, from which a killed fit resumes.
        study: The search's SQLite file. Its trials stand beside it as JSON.
        bundle: The folder of the fitted ranker, replaced as a whole.
        program: The ranker as a torch.export program. Its items stand beside it as FILE.json.
        compiled: Whether the program is machine code (AOTInductor).
    """

    report: Path | None = None
    readings: Path | None = None
    checkpoints: Path | None = None
    study: Path | None = None
    bundle: Path | None = None
    program: Path | None = None
    compiled: bool = False

    def check(self, request: FitRequest) -> None:
        """Check that all outputs can be written, and that none overwrites an input or another output.

        Raises:
            BundleError: No ranker has the requested name.
            SettingsError: A path is not writable or is given twice, or the ranker cannot be exported.
        """
        if self.program is not None:
            require_exportable(item_ranker_class(request.ranker), compiled=self.compiled)
        for file in (self.report, self.readings, self.program, self._program_items):
            if file is not None:
                require_writable(file)
        if self.checkpoints is not None:
            if self.checkpoints.exists() and not self.checkpoints.is_dir():
                raise SettingsError(f"{self.checkpoints}: checkpoints need a folder, but this is a file")
            require_folder_takes_files(self.checkpoints)
        if self.study is not None:
            require_study(self.study)
            if started() > 1:
                raise SettingsError(
                    "a search runs in one process: leave out torchrun, or set the hyperparameters and leave out "
                    "the trials"
                )
        require_apart((request.interactions, request.attributes), self._written(), replaced=self.bundle)
        if self.bundle is not None:
            require_replaceable(self.bundle)

    @property
    def _program_items(self) -> Path | None:
        return self.program and self.program.with_name(f"{self.program.name}.json")

    def _written(self) -> Iterable[Path | None]:
        trials = self.study and self.study.with_suffix(".json")
        return (
            *(self.report, self.readings, self.program, self._program_items, self.checkpoints),
            *(self.study, trials),
        )
