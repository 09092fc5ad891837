"""Checkpoints: all that a stopped phase of training needs to go on to the same weights, bit for bit.

A phase's folder holds the model's and the optimiser's tensors and a few numbers, written whole beside a manifest; the curve
(`progress.jsonl`) lies beside the phases; a resumed phase cuts its part back to the checkpoint's step.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recommender.errors import CorruptFileError
from recommender.storage.manifest import put_back, read_manifest, whole_folder, write_manifest, write_text

TENSORS, NUMBERS = "state.safetensors", "state.json"
PROGRESS, STEPS = "progress.jsonl", "steps"


@dataclass(frozen=True)
class Checkpoint:
    """One phase at one step."""

    tensors: dict[str, NDArray[Any]]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one fit, one folder a phase."""

    folder: Path

    @property
    def progress(self) -> Path:
        """The curve of all phases: one JSON object a line."""
        return self.folder / PROGRESS

    def save(self, phase: str, tensors: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Write a phase's state; a kill at any moment leaves this one or the one before."""
        with whole_folder(self.folder / STEPS / phase) as folder:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / TENSORS)
            write_text(folder / NUMBERS, json.dumps(dict(numbers)))
            write_manifest(folder, kind="checkpoint")

    def load(self, phase: str) -> Checkpoint | None:
        """The phase's last whole state; None where there is none. A damaged one counts as none: the phase starts again."""
        folder = self.folder / STEPS / phase
        put_back(folder)
        if not folder.is_dir():
            return None
        try:
            read_manifest(folder)
        except CorruptFileError:
            return None
        numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        return Checkpoint(load_file(folder / TENSORS), numbers)

    def log(self, **facts: Any) -> None:
        """Add a line to the curve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def rewind(self, phase: str, step: int) -> None:
        """Cut the phase's curve back to `step`; other phases stay, and what is no whole line of a log does not."""
        if not self.progress.is_file():
            return
        kept = []
        for line in self.progress.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            with suppress(ValueError, KeyError, TypeError):
                facts = json.loads(line)
                if line.endswith("\n") and (facts["phase"] != phase or facts["step"] <= step):
                    kept.append(line)
        write_text(self.progress, "".join(kept))
