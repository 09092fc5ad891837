"""Checkpoints: all that a stopped phase of training needs to continue to the same weights, bit for bit.

A phase's folder holds the tensors of model and optimiser and a few numbers, with a manifest, written completely or not
at all. The curve (`progress.jsonl`) lies beside the phases. A phase that resumes cuts its part of it back to the
checkpoint's step.
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
    """State of one phase after a step."""

    tensors: dict[str, NDArray[Any]]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one fit, one folder for each phase."""

    folder: Path

    @property
    def progress(self) -> Path:
        """The curve of all phases, one JSON object for each line."""
        return self.folder / PROGRESS

    def save(self, phase: str, tensors: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Write a phase's state. A kill at any moment leaves this state or the one before."""
        with whole_folder(self.folder / STEPS / phase) as folder:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / TENSORS)
            write_text(folder / NUMBERS, json.dumps(dict(numbers)))
            write_manifest(folder, kind="checkpoint")

    def load(self, phase: str) -> Checkpoint | None:
        """Read the phase's last state, or return None without one. A damaged one counts as none."""
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
        """Cut the phase's curve back to `step` and drop damaged lines. Other phases' lines stay."""
        if not self.progress.is_file():
            return
        kept = []
        for line in self.progress.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            with suppress(ValueError, KeyError, TypeError):
                facts = json.loads(line)
                if line.endswith("\n") and (facts["phase"] != phase or facts["step"] <= step):
                    kept.append(line)
        write_text(self.progress, "".join(kept))
