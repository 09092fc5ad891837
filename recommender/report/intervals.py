"""Charts of estimates with intervals: interval charts (forest plots) and calibration curves.

Numbers without a stated reason are pixels or numbers of ticks, chosen by eye.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recommender.report.axes import (
    LABEL_PX,
    NUM_COLOURS,
    WIDE,
    WIDTH,
    Html,
    Scale,
    circle,
    figure,
    horizontal_axis,
    label_columns,
    legend,
    line,
    metric,
    number,
    percent,
    polyline,
    rectangle,
    shortened,
    text,
    ticks,
    vertical_axis,
)


@dataclass(frozen=True)
class Interval:
    """A value with its interval, as one row of an interval chart."""

    label: str
    value: float
    low: float
    high: float
    tone: str = "neutral"
    """Its colour: neutral, good, warn or bad."""


@dataclass(frozen=True)
class Bin:
    """One bin of a calibration curve: mean prediction, observed share with its interval, number of pairs."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


def interval_chart(
    title: str,
    rows: Sequence[Interval],
    *,
    reference: float | None = None,
    reference_label: str = "",
    margin: float | None = None,
    axis: str = "",
    form: Callable[[object], str] = metric,
    note: str = "",
    wide: bool = False,
) -> Html:
    """Draw values with their intervals, one below the other (a forest plot).

    Args:
        title: heading.
        rows: the values. One that is NaN is written as not known.
        reference: where to draw a solid line, such as 0 for no difference.
        reference_label: what the line means.
        margin: everything below it is shaded, such as the loss that the gate does not accept.
        axis: label of the value axis.
        form: how values are written.
        note: text below the chart.
        wide: takes the whole column of the page.
    """
    width = WIDE if wide else WIDTH
    left = min(0.4 * width, 14 + LABEL_PX * max((label_columns(row.label) for row in rows), default=0))
    values = [v for row in rows for v in (row.low, row.value, row.high) if math.isfinite(v)]
    values += [v for v in (reference, margin) if v is not None]
    written = [f"{form(row.value)} [{form(row.low)}, {form(row.high)}]" for row in rows]
    right_width = 16 + 6.3 * max((len(words) for words in written), default=0)
    x = Scale(*_padded(values or [0.0, 1.0]), left, width - right_width)
    pitch, top = 24.0, (22.0 if reference_label else 8.0)
    bottom = top + pitch * len(rows)
    parts = []
    if margin is not None:
        parts.append(rectangle(x.start, top, x(margin) - x.start, bottom - top, "refused", f"below {form(margin)}"))
    parts.append(horizontal_axis(x, ticks(x.low, x.high, 5), top, bottom, number, axis))
    if reference is not None:
        parts.append(line(x(reference), top - 4, x(reference), bottom, "base"))
        parts.append(text(x(reference), top - 9, reference_label, anchor="middle", kind="tick"))
    for k, (row, value) in enumerate(zip(rows, written, strict=True)):
        y = top + (k + 0.5) * pitch
        parts.append(text(left - 8, y + 4, shortened(row.label, left - 8), anchor="end"))
        if not math.isfinite(row.value):
            parts.append(text(x.start + 6, y + 4, "not known", kind="value"))
            continue
        parts.append(line(x(row.low), y, x(row.high), y, f"whisker {row.tone}"))
        parts += [line(x(edge), y - 4, x(edge), y + 4, f"whisker {row.tone}") for edge in (row.low, row.high)]
        parts.append(circle(x(row.value), y, 4.5, f"dot {row.tone}", f"{row.label}: {value}"))
        parts.append(text(width - right_width + 12, y + 4, value, kind="value"))
    alt = f"{title}: " + "; ".join(f"{r.label} {form(r.value)} between {form(r.low)} and {form(r.high)}" for r in rows)
    return figure(title, "".join(parts), width=width, height=bottom + (42 if axis else 24), alt=alt + ".", note=note)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of values with a little space on both sides, so that no mark touches the frame."""
    padding = (max(values) - min(values)) * 0.06 or abs(values[0]) * 0.06 or 1.0
    return min(values) - padding, max(values) + padding


def calibration_chart(
    title: str,
    series: Mapping[str, Sequence[Bin]],
    *,
    x_axis: str = "predicted",
    y_axis: str = "observed",
    form: Callable[[object], str] = percent,
    note: str = "",
) -> Html:
    """Draw observed shares over predicted ones, with intervals.

    The dashed diagonal is perfect calibration. A dot's area grows with the number of its pairs.
    """
    values = [v for bins in series.values() for b in bins for v in (b.predicted, b.observed)]
    high = min(1.0, max(values, default=1.0) * 1.12) or 1.0
    most = max((b.count for bins in series.values() for b in bins), default=1)
    top, bottom, left = 28.0, 298.0, 62.0
    x, y = Scale(0.0, high, left, WIDTH - 18), Scale(0.0, high, bottom, top)
    tick_values = ticks(0.0, high, 5)
    parts = [
        vertical_axis(y, tick_values, left, WIDTH - 18, form, y_axis),
        horizontal_axis(x, tick_values, top, bottom, form, x_axis),
    ]
    parts.append(polyline([(x(0), y(0)), (x(high), y(high))], "reference"))
    for k, (name, bins) in enumerate(series.items()):
        colour = f"c{k % NUM_COLOURS}"
        shift = 2.0 * (k - (len(series) - 1) / 2)
        parts += [
            line(x(b.predicted) + shift, y(b.low), x(b.predicted) + shift, y(b.high), f"thin {colour}") for b in bins
        ]
        parts.append(polyline([(x(b.predicted) + shift, y(b.observed)) for b in bins], f"line {colour}"))
        for b in bins:
            tooltip = f"{name}: predicted {form(b.predicted)}, observed {form(b.observed)}, {b.count:,} pairs"
            radius = 3 + 5 * math.sqrt(b.count / most)
            parts.append(circle(x(b.predicted) + shift, y(b.observed), radius, f"dot {colour}", tooltip))
    alt = f"{title}: observed against predicted shares for {', '.join(series)}. The diagonal is perfect calibration."
    return figure(title, "".join(parts), width=WIDTH, height=bottom + 42, alt=alt, note=note, key=legend(list(series)))
