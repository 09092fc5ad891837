"""Training curves as one HTML page: loss and validation metric of every phase of every fit.

They are drawn from the logs that a fit writes beside its checkpoints (`progress.jsonl`, one JSON object for each line).
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
"""A line of more points is drawn through the means of this many pieces: a chart is about 500 pixels wide."""
Points = list[tuple[float, float]]


@dataclass
class Phase:
    """One phase of a fit, as logged."""

    of: int = 0
    """Planned steps."""
    losses: dict[int, float] = field(default_factory=dict)
    """Step -> training loss."""
    judged: dict[int, float] = field(default_factory=dict)
    """Step -> metric on validation data."""
    steps_a_second: float | None = None


def read_log(path: Path) -> dict[str, Phase]:
    """Read the phases of a log, in their order.

    Of two lines about the same step the later one counts: the fit was killed and repeated the step. A last line without
    its end, cut off by a kill, is left out.

    Raises:
        CorruptFileError: a line is not one of a training log, or there is none; names file and line.
    """
    phases: dict[str, Phase] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path}: cannot be read as UTF-8 ({error}); give a {LOG} of a training") from None
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            _add(phases, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(
                f"{path}, line {number}: not a line of a training log ({type(error).__name__}: {error}); "
                "delete the line, or train again"
            ) from None
    if not phases:
        raise CorruptFileError(f"{path}: the log has no complete line yet; a fit writes one every ten steps")
    return phases


def _add(phases: dict[str, Phase], facts: Mapping[str, object]) -> None:
    name, step, of, loss = (facts[key] for key in ("phase", "step", "of", "loss"))
    if not isinstance(name, str) or not isinstance(step, int) or not isinstance(of, int):
        raise TypeError(f"phase must be text, step and of whole numbers (got {name!r}, {step!r}, {of!r})")
    phase = phases.setdefault(name, Phase())
    phase.of, phase.losses[step] = of, _number(loss)
    if "judged" in facts:
        phase.judged[step] = _number(facts["judged"])
    if "steps_a_second" in facts:
        phase.steps_a_second = _number(facts["steps_a_second"])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"must be a number (got {value!r})")
    return float(value)


def logs_below(place: Path) -> dict[str, Path]:
    """Find logs: `place` itself, or those in a folder of checkpoints or of a step's fits, named by their place.

    Raises:
        SourceError: there is none.
    """
    if place.is_file():
        return {place.stem: place}
    if not place.is_dir():
        raise SourceError(f"{place}: no such file or folder; give a {LOG} or a folder of checkpoints")
    logs: dict[str, Path] = {}
    for path in sorted({*place.rglob(LOG), *place.rglob(f"{FOLDER}/**/*.jsonl")}):
        named_by = path.parent if path.name == LOG else path.with_suffix("")
        parts = [part for part in named_by.relative_to(place).parts if part != FOLDER]
        logs["/".join(parts) or place.resolve().name] = path
    if not logs:
        raise SourceError(f"{place}: has no {LOG}; a fit writes one into its folder of checkpoints")
    return logs


def training_page(logs: Mapping[str, Mapping[str, Phase]], *, subtitle: str = "") -> str:
    """Return a self-contained HTML page with a section for each phase of each log."""
    sections = [
        _phase_section(log, name, phase, alone=len(logs) == 1)
        for log, phases in logs.items()
        for name, phase in phases.items()
    ]
    all_phases = [phase for phases in logs.values() for phase in phases.values()]
    taken, planned = sum(max(phase.losses) for phase in all_phases), sum(phase.of for phase in all_phases)
    headline = f"{taken:,} of at most {planned:,} steps were taken. A phase that no longer improves stops early."
    verdict = f"{len(sections)} phase{'' if len(sections) == 1 else 's'}"
    return page("Training", Banner(verdict, headline), sections, subtitle=subtitle)


def page_of_fits(fits: Path, *, ranker: str) -> str:
    """Return the page of a training step. A damaged log is reported there, since a chart must not fail the step."""
    subtitle = f"{ranker}: gate, test and live fits"
    if not (fits / FOLDER).is_dir():
        return page("Training", Banner("No curves", f"{ranker} is not trained in steps."), [], subtitle=subtitle)
    try:
        logs = logs_below(fits)
        return training_page({log: read_log(logs[log]) for log in sorted(logs, key=_order)}, subtitle=subtitle)
    except CorruptFileError as error:
        return page("Training", Banner("No curves", str(error), tone="bad"), [], subtitle=subtitle)


def _order(log: str) -> tuple[int, str]:
    """Sort logs by their fit: gate, test, live, then others."""
    fit = log.split("/")[0]
    return (*FITS, fit).index(fit), log


def _phase_section(log: str, name: str, phase: Phase, *, alone: bool) -> Section:
    losses, metrics = _points(phase.losses), _points(phase.judged)
    last = max(phase.losses)
    facts: dict[str, object] = {"steps": last, "planned steps": phase.of, "last loss": phase.losses[last]}
    points, each = thinned(losses)
    note = f"Each point is the mean of {each} logged losses." if each > 1 else ""
    x_range = (0.0, float(max(last, 1)))
    figures = [line_chart("Training loss", {"loss": points}, x_axis="step", x_range=x_range, note=note)]
    if metrics:
        facts["last validation metric"] = metrics[-1][1]
        series = {"validation metric": thinned(metrics)[0]}
        figures.append(line_chart("Validation metric", series, x_axis="step", x_range=x_range))
    if phase.steps_a_second is not None:
        facts["steps per second"] = phase.steps_a_second
    return Section(name if alone else f"{log}: {name}", facts=facts, figures=figures)


def _points(by_step: Mapping[int, float]) -> Points:
    return [(float(step), by_step[step]) for step in sorted(by_step)]


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> tuple[Points, int]:
    """Return at most `most` points, each the mean of several consecutive ones, and how many these are."""
    each = max(math.ceil(len(points) / most), 1)
    parts = [points[first : first + each] for first in range(0, len(points), each)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts], each
