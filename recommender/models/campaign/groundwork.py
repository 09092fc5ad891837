"""What fits of all rankers on the same pairs begin with: labels of open pairs, the timing, predictions for the past.

None of it depends on the ranker, and all of it takes longer than the fit of a simple one. So it is computed once for
the pairs of a boundary, and kept on disk under a name made from these pairs. What is read back gives the same bits.

Shapes: N pairs · E inputs of the regression.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.engine.checkpoints import Checkpoint, Checkpoints
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Outcomes
from recommender.matching.timing import Timing
from recommender.models.campaign.censoring import expected_labels
from recommender.models.campaign.held_out import HeldOut, Past, Regression, held_out_of_logistic
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import NAME_DIGITS, digest

PHASE = "all"
"""The only phase of its checkpoint."""


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
        checkpoints = None if kept is None else Checkpoints(kept / _name(examples, labels, outcomes))
        found = None if checkpoints is None else checkpoints.load(PHASE)
        if found is None:
            expected, timing = expected_labels(examples, labels, outcomes)
        else:
            expected = replace(labels, redeemed_N=found.tensors["redeemed_N"])
            timing = Timing.restore(_part(found.tensors, "timing"), found.numbers["timing"])
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
            past.regressions.update(_regressions(found))
        made = cls(expected, timing, past, held_out_of_logistic(past))
        if checkpoints is not None and found is None:
            made._keep(checkpoints)
        return made

    def _keep(self, checkpoints: Checkpoints) -> None:
        tensors = {"redeemed_N": self.labels.redeemed_N}
        tensors |= {f"timing.{name}": value for name, value in self.timing.tensors().items()}
        for place, regression in enumerate(self.past.regressions.values()):
            tensors |= {f"{place}.{name}": value for name, value in regression.tensors().items()}
        numbers = {"timing": self.timing.config(), "regressions": list(self.past.regressions)}
        try:
            checkpoints.save(PHASE, tensors, numbers)
        except OSError:
            # The step of another ranker may have written it at the same moment.
            if checkpoints.load(PHASE) is None:
                raise


def _regressions(found: Checkpoint) -> Iterator[tuple[tuple[int, float, float], Regression]]:
    for place, (moment_us, strength, clip) in enumerate(found.numbers["regressions"]):
        yield (moment_us, strength, clip), Regression.restore(_part(found.tensors, str(place)), clip=clip)


def _part(tensors: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _name(examples: Examples, labels: Labels, outcomes: Outcomes) -> str:
    """A name made from all that decides the result: the code, and what it reads of the pairs."""
    times = (outcomes.targeted_us_N, outcomes.ends_us_N, outcomes.redeemed_us_N)
    arrays: tuple[NDArray[Any], ...] = (examples.campaigns_N, examples.features_NF, labels.redeemed_N, *times)
    hashes = [(array.dtype.str, array.shape, _sha256(array)) for array in arrays]
    facts = (examples.catalogue.campaign_types, outcomes.known_at_us, code_identity(__name__))
    return f"groundwork-{digest(hashes, *facts)[:NAME_DIGITS]}"


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
