"""How the evaluation page writes estimates, names, roles and times."""

from datetime import datetime

from recommender.evaluation.document import Estimate, Evaluation, SliceResult
from recommender.report.axes import metric
from recommender.report.intervals import Interval
from recommender.report.page import Tone

MAIN_METRICS = ("auc", "ap", "log_loss", "ece")
"""The metrics that tell rankers apart on this task. The page shows them first, and the others in a fold."""


def interval_row(label: str, estimate: Estimate, *, coloured: bool = False) -> Interval:
    """Make a row of an interval chart. A coloured one is good if the interval lies above zero, and bad if below."""
    nan = float("nan")
    value, low, high = (nan if v is None else v for v in (estimate.value, estimate.low, estimate.high))
    tone: Tone = "neutral"
    if coloured:
        tone = "good" if low > 0 else "bad" if high < 0 else "neutral"
    return Interval(label, value, low, high, tone=tone)


def written(estimate: Estimate) -> str:
    """Write a value with its interval in brackets."""
    if estimate.value is None:
        return "–"
    return f"{metric(estimate.value)} [{metric(estimate.low)}, {metric(estimate.high)}]"


def role_of(evaluation: Evaluation, name: str) -> str:
    """Return whether a candidate is challenger, champion, both or a baseline."""
    roles = {"challenger": evaluation.challenger, "champion": evaluation.champion}
    return " and ".join(role for role, candidate in roles.items() if candidate == name) or "baseline"


def part_note(shown: int, total: int) -> str:
    """Say that a chart shows the first rows alone, or return an empty text if it shows all."""
    return (
        f"The first {shown} of {total} slices that are large enough; all are in the table below."
        if shown < total
        else ""
    )


def slice_name(part: SliceResult) -> str:
    """Name a slice by its axis and its value."""
    return f"{part.axis.replace('_', ' ')}: {part.value}"


def written_time(value: datetime) -> str:
    """Write a time to the minute, UTC."""
    return value.strftime("%Y-%m-%d %H:%M UTC")
