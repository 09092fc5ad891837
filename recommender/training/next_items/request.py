"""The request for a fit: files of events, ranker with hyperparameters, seed and device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recommender.datasets.event_columns import EventColumns
from recommender.datasets.interactions import EVERYTHING, event_files, read_interactions
from recommender.engine.context import DEFAULT_SEED, FitContext
from recommender.engine.loop import require_device
from recommender.errors import ContractError, SettingsError
from recommender.models.next_item import item_ranker_class
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.code_identity import HASH_DIGITS, code_identity
from recommender.storage.manifest import digest, sha256
from recommender.training.next_items.fitting import checkpoint_folder, fitting_code, hyperparameters_of


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """One next-item ranker to fit on one file of events.

    Attributes:
        interactions: A file with user, item, and pos or a timestamp, or a mapping TOML with a table of events.
        attributes: Optional file with item and attributes or a text.
        columns: Which columns and kinds of events are read of the interactions.
        ranker: The ranker's name, one of `models.next_item.ITEM_RANKERS`.
        hyperparameters: Those that differ from the ranker's defaults.
        seed: Seed of everything random, 0 or more.
        device: "cpu" or "cuda".
        progress: Called every few steps with the progress of the fit (see `FitContext`).
    """

    interactions: Path
    attributes: Path | None = None
    columns: EventColumns = EVERYTHING
    ranker: str = "fusion"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = DEFAULT_SEED
    device: str = "cpu"
    progress: Callable[[dict[str, Any]], None] | None = None

    def check(self) -> None:
        """Check all that can be checked without reading the files.

        Raises:
            BundleError: No ranker has this name.
            SettingsError: A hyperparameter or the seed is not allowed, or the ranker does not train on this device.
            DeviceError: The machine lacks the device.
        """
        hyperparameters_of(self.ranker, self.hyperparameters)
        if self.seed < 0:
            raise SettingsError(f"seed must be 0 or more (got {self.seed})")
        require_device(item_ranker_class(self.ranker), self.device)

    def read(self) -> Sequences:
        """The events as sequences.

        Raises:
            SourceError, ContractError: A file cannot be used; names file, column and row. A file in which no user has
                three events leaves nobody to judge a ranker by and is refused, too.
        """
        sequences = read_interactions(self.interactions, self.attributes, self.columns)
        if not (LeaveOneOut.of(sequences).test_U > 0).any():
            problem = (
                "no user has three events, so no ranker can be judged: two are held out and one is learned from. "
                "Bring more events of the same users"
            )
            raise ContractError(self.interactions.name, problem, column="user")
        return sequences

    def file_hashes(self) -> dict[str, str | None]:
        """SHA-256 of the two files, for lineages. Of a mapping, also of every file that it names."""
        attributes = None if self.attributes is None else sha256(self.attributes)
        hashes = [sha256(file) for file in event_files(self.interactions)]
        return {"interactions": hashes[0] if len(hashes) == 1 else digest(*hashes), "attributes": attributes}

    def data_identity(self) -> str:
        """A hash of the files and of the code that reads them."""
        asked = {"columns": dict(self.columns.columns), "kinds": list(self.columns.kinds)}
        return digest(self.file_hashes(), asked, code_identity("recommender.datasets.interactions"))

    def code_version(self) -> str:
        """Identity of the code that can change the fitted ranker, for lineages and reports."""
        return digest(fitting_code(self.ranker), code_identity("recommender.datasets.interactions"))[:HASH_DIGITS]

    def checkpoints(self, folder: Path | None, sequences: Sequences, purpose: str) -> Path | None:
        """The folder below `folder` for the checkpoints of this request's fits. None without `folder`."""
        if folder is None:
            return None
        identity = (purpose, self.seed, dict(self.hyperparameters))
        return checkpoint_folder(folder, sequences, self.ranker, *identity, device=self.device)

    def context(self, checkpoints: Path | None = None) -> FitContext:
        """The context in which the fit runs."""
        return FitContext(seed=self.seed, device=self.device, checkpoints=checkpoints, progress=self.progress)
