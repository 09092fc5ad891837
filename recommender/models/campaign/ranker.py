"""The one interface of every ranker, and the table of those there are.

Shapes: N pairs of user and campaign · F features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.matching.examples import Examples, Histories, Labels


@dataclass(frozen=True, eq=False)
class Scores:
    """What a ranker says of N pairs. Campaigns are ranked by `redeem_N`."""

    redeem_N: NDArray[np.float32]
    """Probability of participation, (0, 1)."""
    spend_N: NDArray[np.float32] | None = None
    """Expected spend, currency units; None where a ranker has no such head."""
    excess_N: NDArray[np.float32] | None = None


class Ranker(ABC):
    """A trained ranker of (user, campaign) pairs. Construction is by `fit` or `restore`, never by hand."""

    name: ClassVar[str]
    trains_on_gpu: ClassVar[bool] = False
    """Whether `fit` uses the context's device."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The dials with their values where a configuration does not say otherwise: `DEFAULTS` of the ranker's module."""
        return dict(import_module(cls.__module__).DEFAULTS)

    @classmethod
    @abstractmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: Mapping[str, Any],
        context: FitContext,
        earlier: "Ranker | None" = None,
    ) -> Self:
        """Train on N labelled pairs. `corpus`: every user's purchase history up to the boundary, for pretraining. `earlier`: the
        same ranker fitted at an earlier boundary with the same configuration; a fit may start from its weights.

        Raises:
            LabelError: only one class is known.
            TrainingError: the loss stopped being finite, or memory ran out.
            DeviceError: the context's device is absent.
        """

    @abstractmethod
    def score(self, examples: Examples) -> Scores:
        """Score N pairs; the same input gives the same bits."""

    @abstractmethod
    def contributions(self, examples: Examples) -> NDArray[np.float32] | None:
        """Additive contributions of the F features to the log-odds, float32 [N, F]; None where there are none."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Everything numeric that `restore` needs."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything else that `restore` needs, as JSON values (feature names included)."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """The ranker that `tensors()` and `config()` came from, for scoring on CPU."""
