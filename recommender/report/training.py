"""Training as one page: the loss of every phase, step by step, and what data that it did not learn from said of it meanwhile.

It is drawn from the logs that a fit writes beside its checkpoints (`progress.jsonl`, one JSON object a line).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recommender.errors import CorruptFileError, SourceError
from recommender.report.lines import line_chart
from recommender.report.page import Banner, Section, page

LOG, FOLDER = "progress.jsonl", "progress"
FITS = ("gate", "test", "live")
MAX_POINTS = 600
"""A longer line is drawn through the means of as many equal pieces."""
Points = list[tuple[float, float]]


@dataclass
class Phase:
    """One phase of a fit: what was logged, by step."""

    of: int = 0
    """Steps that were planned."""
    losses: dict[int, float] = field(default_factory=dict)
    judged: dict[int, float] = field(default_factory=dict)
    """The figure on validation data."""
    steps_a_second: float | None = None


def read_log(path: Path) -> dict[str, Phase]:
    """The phases of a log, in their order. Of two lines about one step the later one counts: the fit was killed and went over it anew.
    A last line that a kill cut off is left out.

    Raises:
        CorruptFileError: a line is none of a log, or there is no line; names file and line.
    """
    phases: dict[str, Phase] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path}: not a text in UTF-8 ({error}); it is no log of a training") from None
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            _add(phases, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{path}, line {number}: not a line of a training's log ({type(error).__name__}: {error}). "
                "Take the line out, or train again."
            ) from None
    if not phases:
        raise CorruptFileError(f"{path}: the log holds no line. A fit writes one each ten steps.")
    return phases


def _add(phases: dict[str, Phase], facts: Mapping[str, object]) -> None:
    name, step, of, loss = (facts[key] for key in ("phase", "step", "of", "loss"))
    if not isinstance(name, str) or not isinstance(step, int) or not isinstance(of, int):
        raise TypeError("phase is a word, step and of are whole numbers")
    phase = phases.setdefault(name, Phase())
    phase.of, phase.losses[step] = of, _number(loss)
    if "judged" in facts:
        phase.judged[step] = _number(facts["judged"])
    if "steps_a_second" in facts:
        phase.steps_a_second = _number(facts["steps_a_second"])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def logs_below(place: Path) -> dict[str, Path]:
    """Logs by where they lie: `place` itself, or those in a folder of checkpoints or of a training step's fits.

    Raises:
        SourceError: there is none.
    """
    if place.is_file():
        return {place.stem: place}
    if not place.is_dir():
        raise SourceError(f"{place}: no such file or folder")
    found: dict[str, Path] = {}
    for path in sorted({*place.rglob(LOG), *place.rglob(f"{FOLDER}/**/*.jsonl")}):
        where = path.parent if path.name == LOG else path.with_suffix("")
        parts = [part for part in where.relative_to(place).parts if part != FOLDER]
        found["/".join(parts) or place.resolve().name] = path
    if not found:
        raise SourceError(f"{place}: no {LOG} lies below it. A fit writes one into its folder of checkpoints.")
    return found


def training_page(logs: Mapping[str, Mapping[str, Phase]], *, subtitle: str = "") -> str:
    """One self-contained HTML page with a panel for each phase of each log."""
    panels = [
        _panel(log, name, phase, alone=len(logs) == 1) for log, told in logs.items() for name, phase in told.items()
    ]
    all_phases = [phase for told in logs.values() for phase in told.values()]
    taken, planned = sum(max(phase.losses) for phase in all_phases), sum(phase.of for phase in all_phases)
    headline = f"{taken:,} steps were taken of at most {planned:,}; a phase that gains nothing more stops early."
    phases = f"{len(panels)} phase{'' if len(panels) == 1 else 's'}"
    return page("Training", Banner(phases, headline), panels, subtitle=subtitle)


def page_of_fits(fits: Path, *, ranker: str) -> str:
    """The page of a training step. What cannot be drawn is said on the page: a picture costs no fit."""
    subtitle = f"{ranker}: its fits for the gate, for the final test and for what serves"
    if not (fits / FOLDER).is_dir():
        return page("Training", Banner("No curve", f"{ranker} is not trained in steps."), [], subtitle=subtitle)
    try:
        logs = logs_below(fits)
        return training_page({log: read_log(logs[log]) for log in sorted(logs, key=_place)}, subtitle=subtitle)
    except CorruptFileError as error:
        return page("Training", Banner("No curve", str(error), tone="bad"), [], subtitle=subtitle)


def _place(log: str) -> tuple[int, str]:
    fit = log.split("/")[0]
    return (*FITS, fit).index(fit), log


def _panel(log: str, name: str, phase: Phase, *, alone: bool) -> Section:
    losses, judged = _points(phase.losses), _points(phase.judged)
    last = max(phase.losses)
    facts: dict[str, object] = {"steps taken": last, "steps at most": phase.of, "last loss": phase.losses[last]}
    drawn, each = thinned(losses)
    note = f"Each point is the mean of {each} that were logged." if each > 1 else ""
    x_range = (0.0, float(max(last, 1)))
    figures = [line_chart("Loss in training", {"loss": drawn}, x_axis="step", x_range=x_range, note=note)]
    if judged:
        facts["last figure on validation data"] = judged[-1][1]
        series = {"figure on validation data": thinned(judged)[0]}
        figures.append(line_chart("Figure on validation data", series, x_axis="step", x_range=x_range))
    if phase.steps_a_second is not None:
        facts["steps a second"] = phase.steps_a_second
    return Section(name if alone else f"{log}: {name}", facts=facts, figures=figures)


def _points(by_step: Mapping[int, float]) -> Points:
    return [(float(step), by_step[step]) for step in sorted(by_step)]


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> tuple[Points, int]:
    """At most `most` points, each the mean of so many in a row; and of how many."""
    each = max(math.ceil(len(points) / most), 1)
    parts = [points[first : first + each] for first in range(0, len(points), each)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts], each
