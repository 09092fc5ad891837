"""What fits of all rankers on the same pairs begin with: labels of open pairs, the timing, predictions for the past.

None of it depends on the ranker, and all of it takes longer than the fit of a simple one. So it is computed once for
the pairs of a boundary, and kept on disk under a name made from these pairs. What is read back gives the same bits.

Shapes: N pairs · E inputs of the regression.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recommender.errors import CorruptFileError
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Outcomes
from recommender.matching.timing import Timing
from recommender.models.campaign.censoring import expected_labels
from recommender.models.campaign.held_out import HeldOut, Past, Regression, held_out_of_logistic
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import (
    NAME_DIGITS,
    digest,
    put_back,
    read_manifest,
    whole_folder,
    write_manifest,
    write_text,
)

TENSORS, FACTS = "tensors.safetensors", "facts.json"
LIBRARIES = ("numpy", "scipy", "torch")
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Groundwork:
    """What every fit on N pairs begins with."""

    labels: Labels
    """Of all pairs: 0 of an open pair is replaced by the probability that it still takes part."""
    timing: Timing
    past: Past
    """The pairs with a known outcome, with the regressions that predict their latest campaigns."""
    by_regression: HeldOut
    """Past campaigns as a logistic regression with default hyperparameters predicts them."""

    @classmethod
    def of(cls, examples: Examples, labels: Labels, outcomes: Outcomes, *, kept: Path | None = None) -> "Groundwork":
        """Compute it, or read it if it was kept for the same pairs by the same code.

        Args:
            examples: The pairs of a fit.
            labels: Their labels as known at its boundary: 0 without a participation so far.
            outcomes: What was known at the boundary, for the same pairs.
            kept: Folder in which it is kept. None: it is computed.

        Raises:
            LabelError: No outcome is known, all known outcomes are the same, or a participation lies before its
                targeting.
        """
        folder = None if kept is None else kept / _name(examples, labels, outcomes)
        found = None if folder is None else _read(folder)
        if found is None:
            expected, timing = expected_labels(examples, labels, outcomes)
        else:
            tensors, facts = found
            expected = replace(labels, redeemed_N=tensors["redeemed_N"])
            timing = Timing.restore(_part(tensors, "timing"), facts["timing"])
        known_N = np.isfinite(labels.redeemed_N)
        learnt = replace(
            examples,
            campaigns_N=examples.campaigns_N[known_N],
            users_N=examples.users_N[known_N],
            features_NF=examples.features_NF[known_N],
            horizon=None,
        )
        past = Past.of(learnt, outcomes.take(known_N), timing)
        if found is not None:
            past.regressions.update(_regressions(tensors, facts))
        made = cls(expected, timing, past, held_out_of_logistic(past))
        if folder is not None and found is None:
            made._keep(folder)
        return made

    def _keep(self, target: Path) -> None:
        tensors = {"redeemed_N": self.labels.redeemed_N}
        tensors |= {f"timing.{name}": value for name, value in self.timing.tensors().items()}
        for place, regression in enumerate(self.past.regressions.values()):
            tensors |= {f"{place}.{name}": value for name, value in regression.tensors().items()}
        facts = {"timing": self.timing.config(), "regressions": list(self.past.regressions)}
        try:
            with whole_folder(target) as folder:
                save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / TENSORS)
                write_text(folder / FACTS, json.dumps(facts))
                write_manifest(folder, kind="groundwork")
        except OSError:
            # The step of another ranker may have written it at the same moment.
            if _read(target) is None:
                raise


def _read(folder: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Tensors and facts, or None where nothing is kept. What is damaged counts as nothing."""
    put_back(folder)
    if not folder.is_dir():
        return None
    try:
        read_manifest(folder)
    except CorruptFileError:
        return None
    return load_file(folder / TENSORS), json.loads((folder / FACTS).read_text(encoding="utf-8"))


def _regressions(tensors: Tensors, facts: dict[str, Any]) -> Iterator[tuple[tuple[int, float, float], Regression]]:
    for place, (moment_us, strength, clip) in enumerate(facts["regressions"]):
        yield (moment_us, strength, clip), Regression.restore(_part(tensors, str(place)), clip=clip)


def _part(tensors: Tensors, prefix: str) -> Tensors:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _name(examples: Examples, labels: Labels, outcomes: Outcomes) -> str:
    """A name made from all that decides the result: the code, its libraries, and what it reads of the pairs."""
    times = (outcomes.targeted_us_N, outcomes.ends_us_N, outcomes.redeemed_us_N)
    arrays: tuple[NDArray[Any], ...] = (examples.campaigns_N, examples.features_NF, labels.redeemed_N, *times)
    hashes = [(array.dtype.str, array.shape, _sha256(array)) for array in arrays]
    facts = (examples.catalogue.campaign_types, outcomes.known_at_us, code_identity(__name__), _libraries())
    return f"groundwork-{digest(hashes, *facts)[:NAME_DIGITS]}"


def _libraries() -> dict[str, str]:
    """Versions of what computes: another one may round in another way."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
