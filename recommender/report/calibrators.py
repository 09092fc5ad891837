"""The calibration step in reports: which calibrator each ranker has, and how much it gains on held-out campaigns."""

from collections.abc import Sequence

from recommender.evaluation.document import PeriodResult
from recommender.models.campaign.calibration import Calibrator, Candidate
from recommender.report.axes import Html
from recommender.report.page import table


def calibrator_words(calibrator: Calibrator) -> str:
    """Say which calibrator was chosen, and why."""
    if not calibrator.candidates:
        return f"none ({calibrator.note})" if calibrator.note else "none"
    counts = f"{calibrator.num_campaigns} held-out campaigns, {calibrator.num_participations} participations"
    if calibrator.chosen != "none":
        return f"{calibrator.chosen}: {_gain(calibrator.candidates[calibrator.chosen])} ({counts})"
    best = max((item for item in calibrator.candidates.items() if item[0] != "none"), key=lambda item: item[1].gain)
    rule = "no candidate gains more than one standard error"
    return f"none: {rule}; the best, {best[0]}, {_gain(best[1])} ({counts})"


def calibrator_table(period: PeriodResult, rankers: Sequence[str]) -> list[Html]:
    """The calibrator of each ranker's fit. Empty for an evaluation from before there were calibrators."""
    known = {name: one for name in rankers if (one := period.rankers[name].calibrator) is not None}
    if not known:
        return []
    rows = [[name, one.chosen, calibrator_words(one)] for name, one in known.items()]
    caption = (
        "Calibrators are fitted on campaigns that the predicting fit never saw, before the period. A richer one is "
        "chosen only if it gains more than one standard error over campaigns in log loss."
    )
    return [table(["ranker", "calibrator", "on held-out campaigns"], rows, caption=caption)]


def _gain(of: Candidate) -> str:
    return f"gains {of.gain:+.4f} ± {of.standard_error:.4f} in log loss"
