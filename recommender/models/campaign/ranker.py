"""The interface of every campaign ranker: fit on labelled pairs, score pairs, explain, save and restore.

Shapes: N pairs of user and campaign · F features · U users · D width of a vector · V values of an axis.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories

C = TypeVar("C", bound=Hyperparameters)

LOWEST_PROBABILITY, HIGHEST_PROBABILITY = 1e-7, 1 - 1e-6
"""Scores are clipped to these, so that log-odds stay finite. 1 - 1e-6 stays below 1 in float32, whose spacing there is
6e-8."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions for N pairs. Campaigns are ranked by `redeem_N`."""

    redeem_N: NDArray[np.float32]
    """Probability of participation, inside (0, 1)."""
    spend_N: NDArray[np.float32] | None = None
    """Expected spend in currency units. None where the ranker does not predict it."""
    excess_N: NDArray[np.float32] | None = None
    """Expected spend above the user's usual spend, in currency units. None where the ranker does not predict it."""


@dataclass(frozen=True, eq=False)
class NextLines:
    """What users will buy next, as a sequence encoder expects it."""

    axis: str
    """Of `matching.affinity.AXES`: which property of items is predicted."""
    values: tuple[str, ...]
    """The axis' values: for the product, items' identifiers."""
    p_UV: NDArray[np.float32]
    """Probability that a line of the next basket, or the next line, has each value."""


Contributions = Callable[[NDArray[np.int64]], "NDArray[np.float32] | None"]
"""Places among scored pairs -> what `Ranker.contributions` says of them, float32 [places, F]."""


class Ranker(ABC, Generic[C]):
    """A trained ranker of (user, campaign) pairs, made by `fit` or `restore`, never by its constructor.

    A new ranker is a file with a subclass and its `Config`, and one line in the table of `recommender.models.campaign`.
    """

    name: ClassVar[str]
    """Name in settings, bundles and reports."""
    Config: ClassVar[type[Hyperparameters]]
    """Hyperparameters of this ranker: defaults, bounds, meaning and search space. `fit` takes an instance of it."""
    trains_on_gpu: ClassVar[bool] = False
    """Whether `fit` uses the context's device. Scoring always runs on the CPU."""
    calibration_fits: ClassVar[int] = 12
    """Most further fits, on earlier pairs, by which its calibrator is chosen: one for each of the latest campaigns. 0,
    no calibrator, for rankers that train networks, whose fits take too long. A setting can ask for some."""
    encodes_order: ClassVar[bool] = False
    """Whether `encoded` and `next_lines` return something: the ranker has an encoder of purchases in their order."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: C,
        context: FitContext,
        earlier: "Ranker[Any] | None" = None,
    ) -> Self:
        """Train on N labelled pairs.

        Args:
            examples: The pairs with their features, as known at the boundary of the fit.
            labels: Outcomes of the pairs; NaN where an outcome is not known.
            corpus: Purchase history of every user up to the boundary, for pretraining.
            config: Hyperparameters, an instance of `Config`.
            context: Seed, device, checkpoints and progress.
            earlier: The same ranker with the same configuration, fitted at an earlier boundary. A fit may start from
                its weights.

        Raises:
            LabelError: All known outcomes are the same, or none is known.
            TrainingError: The loss stopped being finite, or memory ran out.
            DeviceError: This machine lacks the context's device.
        """

    @abstractmethod
    def score(self, examples: Examples) -> Scores:
        """Score N pairs. The same input gives the same bits."""

    @abstractmethod
    def contributions(self, examples: Examples) -> NDArray[np.float32] | None:
        """Additive contributions of the F features to the log-odds, float32 [N, F]. None where the ranker has none."""

    def ranked(self, examples: Examples) -> tuple[NDArray[np.float32], Contributions]:
        """`redeem_N` of `score`, and `contributions` of the pairs that are then asked for.

        A request needs only these. A ranker overrides it where the two have work in common.
        """
        return self.score(examples).redeem_N, lambda places: self.contributions(examples.take(places))

    def encoded(self, histories: Histories, catalogue: Catalogue) -> NDArray[np.float32] | None:
        """Each user's purchases in their order as one vector, float32 [U, D]. None where there is no encoder of them.

        Vectors of one fit can be compared, and those of two fits cannot.
        """
        return None

    def next_lines(self, histories: Histories, catalogue: Catalogue) -> NextLines | None:
        """What each user will buy next, by the vectors of `encoded`. None where there is no such encoder."""
        return None

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays that `restore` needs."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything else that `restore` needs, as JSON values. `hyper` holds the hyperparameters."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker that `tensors()` and `config()` came from, for scoring on the CPU."""
