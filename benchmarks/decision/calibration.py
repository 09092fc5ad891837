"""What the calibration step does on the two validation periods. Needs the training set of a run.

Each ranker is fitted at each origin, as in `horizon`. Its calibrator is chosen from campaigns before the origin. Every
candidate is then judged on the later campaigns, which nothing was chosen by. The transformer gets three further fits,
because each takes as long as the fit itself.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.decision.horizon import RANKERS, SEED, judged, origins, value
from benchmarks.decision.rows import Row
from recommender.datasets.periods import microseconds
from recommender.engine.context import FitContext
from recommender.features.training_set import TrainingSet
from recommender.models.campaign import ranker_class
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.settings import load_settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set
from recommender.training.train import fit_at

FITS_OF_TRANSFORMER = 3
SHOWN = ("log_loss", "auc", "ap", "ece")


def rows(say: Callable[[str], None]) -> list[Row]:
    """Log loss of each ranker with the chosen calibrator, beside that of every candidate."""
    settings = load_settings(Path("recommender.toml"))
    data = TrainingSet.open(published_training_set(Home.of(settings)))
    made = []
    for at in origins(data):
        examples = data.examples(at.mask_N).read_at(microseconds(at.read_at))
        for name in ("popularity", "rate_rule", *RANKERS):
            say(f"{at.name}: {name}")
            cls = ranker_class(name)
            fits = FITS_OF_TRANSFORMER if name == "transformer" else None
            context = FitContext(seed=SEED)
            fitted = fit_at(cls, data, at.fitted_at, cls.Config(), context, calibration_fits=fits)
            tried = fitted.calibrator.candidates
            rankers = {way: _with(fitted, way) for way in ("none", *(way for way in tried if way != "none"))}
            scored = judged(at, {way: ranker.score(examples).redeem_N for way, ranker in rankers.items()})
            facts: dict[str, Any] = {
                way: {metric: round(value(of, metric), 4) for metric in SHOWN} for way, of in scored.items()
            }
            for way, of in tried.items():
                facts[way] |= {"held out": {key: round(number, 4) for key, number in of.model_dump().items()}}
            chosen = fitted.calibrator
            made.append(
                Row(
                    name=f"calibration: {at.name}, {name}, log loss with the chosen calibrator",
                    value=facts[chosen.chosen]["log_loss"],
                    goal="",
                    facts={
                        "chosen": chosen.chosen,
                        "campaigns held out": chosen.num_campaigns,
                        "participations held out": chosen.num_participations,
                        "note": chosen.note,
                        **facts,
                    },
                )
            )
            say(f"  {chosen.chosen}: {facts}")
    return made


def _with(fitted: HorizonRanker, way: str) -> HorizonRanker:
    """The same ranker with another of the candidates."""
    calibrator = fitted.calibrator.model_copy(update={"chosen": way})
    return HorizonRanker(fitted.inside, fitted.timing, fitted.levels, calibrator)
