"""Any campaign ranker over a horizon: the probability of participation from the decision on, given none yet.

The ranker inside predicts whether a user ever takes a campaign up. `Timing` says which share of the participations lies
behind at the decision, and which is due when participations stop to count. One function joins them for training sets,
evaluations, requests and bulk scores.

Between the two stands the calibrator, where held-out campaigns chose one: it corrects the probability of the ranker
inside, before the horizon. For a decision within a window that counts to its end, the log-odds move by log(1 - F). So
the additive contributions of the ranker inside, times the calibrator's slope, explain this probability, too.

Shapes: N pairs · F features.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Horizon, Outcomes
from recommender.matching.packed_history import Histories
from recommender.matching.timing import Timing, still_coming
from recommender.models.campaign.calibration import KEY as CALIBRATION
from recommender.models.campaign.calibration import Calibrator
from recommender.models.campaign.groundwork import Groundwork
from recommender.models.campaign.held_out import CorpusBefore, HeldOut, held_out_of, held_out_of_logistic
from recommender.models.campaign.levels import Levels, TakeUp, past_levels
from recommender.models.campaign.logistic import LogisticConfig, LogisticRanker
from recommender.models.campaign.ranker import (
    HIGHEST_PROBABILITY,
    LOWEST_PROBABILITY,
    Contributions,
    Ranker,
    Scores,
)

PREFIX, KEY = "timing.", "timing"
"""Prefix of the timing's tensors in a bundle, and its entry in the configuration."""
LEVELS = "levels."
"""Prefix of the levels' tensors in a bundle."""


class HorizonRanker(Ranker[Hyperparameters]):
    """A ranker whose scores are probabilities over each pair's horizon. `fit_over_horizon` makes it, and a bundle."""

    def __init__(
        self,
        inside: Ranker[Any],
        timing: Timing,
        levels: Levels | None = None,
        calibrator: Calibrator | None = None,
    ) -> None:
        self.inside, self.timing, self.levels = inside, timing, levels or Levels.prior()
        self.calibrator = calibrator or Calibrator()
        self.name = inside.name  # type: ignore[misc]  # a bundle names the ranker inside

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: Hyperparameters,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Not used: `fit_over_horizon` needs the class of the ranker inside.

        Raises:
            TypeError: Always.
        """
        raise TypeError("call fit_over_horizon, which takes the class of the ranker inside")

    def score(self, examples: Examples) -> Scores:
        """Score N pairs over their horizons. Amounts shrink with the share of the window that counts."""
        scores, horizon = self._calibrated(self.inside.score(examples)), examples.horizon
        if horizon is None:
            return scores
        # A window's purchases are taken as even over its days.
        part_N = (horizon.reached_N() - horizon.elapsed_N()).astype(np.float32)
        return Scores(
            redeem_N=self._coming_N(scores.redeem_N, examples, horizon),
            spend_N=None if scores.spend_N is None else scores.spend_N * part_N,
            excess_N=None if scores.excess_N is None else scores.excess_N * part_N,
        )

    def ranked(self, examples: Examples) -> tuple[NDArray[np.float32], Contributions]:
        """By the ranker inside, scored once."""
        inside_N, added = self.inside.ranked(examples)
        redeem_N = self._calibrated(Scores(inside_N)).redeem_N
        if examples.horizon is not None:
            redeem_N = self._coming_N(redeem_N, examples, examples.horizon)

        def contributions(places: NDArray[np.int64]) -> NDArray[np.float32] | None:
            added_NF = added(places)
            return None if added_NF is None else self._sloped(added_NF, inside_N[places])

        return redeem_N, contributions

    def _coming_N(self, redeem_N: NDArray[np.float32], examples: Examples, horizon: Horizon) -> NDArray[np.float32]:
        types = examples.catalogue.campaign_types
        types_N = [types[row] for row in examples.campaigns_N.tolist()]
        behind_N = self.timing.behind_N(types_N, horizon.elapsed_N())
        due_N = self.timing.behind_N(types_N, horizon.reached_N())
        p_N = still_coming(redeem_N.astype(np.float64), behind_N, due_N)
        return np.minimum(np.maximum(p_N, LOWEST_PROBABILITY), HIGHEST_PROBABILITY).astype(np.float32)

    def _calibrated(self, scores: Scores) -> Scores:
        if self.calibrator.is_none:
            return scores
        return replace(scores, redeem_N=self.calibrator(scores.redeem_N.astype(np.float64)).astype(np.float32))

    def take_up(self, redeem_N: NDArray[np.float32]) -> TakeUp:
        """Forecast the participations of one campaign among N users, from their scores."""
        return self.levels.take_up(redeem_N)

    def contributions(self, examples: Examples) -> NDArray[np.float32] | None:
        """Contributions to the calibrated log-odds, float32 [N, F]. The horizon adds the same to all of a pair's.

        With beta calibration, whose slope depends on the probability, they are those of a small change of a feature.
        """
        added_NF = self.inside.contributions(examples)
        if added_NF is None or self.calibrator.is_none:
            return added_NF
        return self._sloped(added_NF, self.inside.score(examples).redeem_N)

    def _sloped(self, added_NF: NDArray[np.float32], inside_N: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.calibrator.is_none:
            return added_NF
        slope_N = self.calibrator.slope_N(inside_N.astype(np.float64))
        return np.asarray(added_NF * slope_N[:, None], dtype=np.float32)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Tensors of the ranker inside, of the timing and of the levels. Priors are not written."""
        timing = {} if self.timing.is_prior else self.timing.tensors()
        levels = self.levels.tensors() if self.levels.num_campaigns else {}
        return {
            **self.inside.tensors(),
            **{PREFIX + name: value for name, value in timing.items()},
            **{LEVELS + name: value for name, value in levels.items()},
        }

    def config(self) -> dict[str, Any]:
        """Configuration of the ranker inside, of the timing, and of the calibrator with its held-out figures."""
        timing = {} if self.timing.is_prior else {KEY: self.timing.config()}
        calibration = self.calibrator.model_dump(exclude_defaults=True)
        return {**self.inside.config(), **timing, **({CALIBRATION: calibration} if calibration else {})}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Not used: `registry.bundle.load` restores the ranker inside by its name.

        Raises:
            TypeError: Always.
        """
        raise TypeError("call registry.bundle.load, which knows the class of the ranker inside")


def fit_over_horizon(
    cls: type[Ranker[Any]],
    examples: Examples,
    labels: Labels,
    outcomes: Outcomes,
    *,
    corpus: Histories,
    config: Hyperparameters,
    context: FitContext,
    earlier: Ranker[Any] | None = None,
    corpus_before: CorpusBefore | None = None,
    calibration_fits: int | None = None,
    kept: Path | None = None,
) -> HorizonRanker:
    """Fit a ranker of class `cls` on pairs of which some windows are still open, and choose its calibrator.

    Args:
        cls: Class of the ranker inside.
        examples: As `Ranker.fit`.
        labels: As `Ranker.fit`, 0 for a pair without a participation so far.
        outcomes: What was known at the boundary about the same pairs.
        corpus: As `Ranker.fit`.
        config: As `Ranker.fit`.
        context: As `Ranker.fit`.
        earlier: A ranker that this function returned at an earlier boundary.
        corpus_before: Purchase histories before earlier moments, for rankers that read a corpus.
        calibration_fits: Most further fits for the choice of the calibrator. None: what the class allows. 0: no
            calibrator.
        kept: Folder that keeps what does not depend on the ranker, for fits of other rankers on the same pairs.

    Raises:
        LabelError: As `Ranker.fit`, or a participation lies before its targeting.
        TrainingError, DeviceError: As `Ranker.fit`.
    """
    work = Groundwork.of(examples, labels, outcomes, kept=kept)
    started_from = earlier.inside if isinstance(earlier, HorizonRanker) else earlier
    inside = cls.fit(
        replace(examples, horizon=None),
        work.labels,
        corpus=corpus,
        config=config,
        context=context,
        earlier=started_from,
    )
    known_N = np.isfinite(labels.redeemed_N)
    max_fits = cls.calibration_fits if calibration_fits is None else calibration_fits
    if max_fits == 0:
        own = HeldOut.none("not tried: its fits take long; ask for some with training.calibration_fits")
    elif cls is LogisticRanker and isinstance(config, LogisticConfig):
        # The same predictions that the levels need, unless its hyperparameters are others.
        own = held_out_of_logistic(work.past, config)
    else:
        own = held_out_of(
            cls,
            work.past,
            Labels(*(values_N[known_N] for values_N in (labels.redeemed_N, labels.spend_N, labels.excess_N))),
            corpus_before=corpus_before or (lambda _: corpus),
            config=config,
            context=context,
            max_fits=max_fits,
        )
    return HorizonRanker(inside, work.timing, past_levels(work.by_regression), Calibrator.choose(own))


def levels_of(tensors: Mapping[str, NDArray[Any]]) -> Levels:
    """Restore a bundle's levels. A bundle without them gets the prior."""
    own = {name.removeprefix(LEVELS): value for name, value in tensors.items() if name.startswith(LEVELS)}
    return Levels.restore(own) if own else Levels.prior()


def timing_of(tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Timing:
    """Restore a bundle's timing. A bundle without one gets the prior, an even spread over the window."""
    if KEY not in config:
        return Timing.prior()
    own = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return Timing.restore(own, config[KEY])
