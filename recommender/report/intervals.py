"""Values that are not certain: interval charts (forest plots) and calibration curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recommender.report.axes import (
    NUM_COLOURS,
    WIDE,
    WIDTH,
    Html,
    Scale,
    circle,
    figure,
    horizontal_axis,
    legend,
    line,
    metric,
    number,
    percent,
    polyline,
    rectangle,
    short,
    text,
    ticks,
    vertical_axis,
)


@dataclass(frozen=True)
class Interval:
    """A value with its interval, as one row of an interval chart. `tone`: neutral, good, warn or bad (its colour)."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    tone: str = "neutral"


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
    """Values with their intervals, one below the other (a forest plot).

    `reference` draws a solid line (no difference); `margin` shades everything below it: the loss that the gate refuses.
    """
    width = WIDE if wide else WIDTH
    left = min(0.4 * width, 14 + 6.6 * max((len(row.label) for row in rows), default=0))
    known = [v for row in rows for v in (row.low, row.value, row.high) if math.isfinite(v)]
    known += [v for v in (reference, margin) if v is not None]
    written = [f"{form(row.value)} [{form(row.low)}, {form(row.high)}]" for row in rows]
    room = 16 + 6.3 * max((len(words) for words in written), default=0)
    x = Scale(*_spread(known or [0.0, 1.0]), left, width - room)
    pitch, top = 24.0, (22.0 if reference_label else 8.0)
    bottom = top + pitch * len(rows)
    parts = []
    if margin is not None:
        parts.append(rectangle(x.start, top, x(margin) - x.start, bottom - top, "refused", f"below {form(margin)}"))
    parts.append(horizontal_axis(x, ticks(x.low, x.high, 5), top, bottom, number, axis))
    if reference is not None:
        parts.append(line(x(reference), top - 4, x(reference), bottom, "base"))
        parts.append(text(x(reference), top - 9, reference_label, anchor="middle", kind="tick"))
    for k, (row, shown) in enumerate(zip(rows, written, strict=True)):
        y = top + (k + 0.5) * pitch
        parts.append(text(left - 8, y + 4, short(row.label, left - 8), anchor="end"))
        if not math.isfinite(row.value):
            parts.append(text(x.start + 6, y + 4, row.note or "not known", kind="value"))
            continue
        parts.append(line(x(row.low), y, x(row.high), y, f"whisker {row.tone}"))
        parts += [line(x(edge), y - 4, x(edge), y + 4, f"whisker {row.tone}") for edge in (row.low, row.high)]
        said = f"{row.label}: {shown}" + (f" · {row.note}" if row.note else "")
        parts.append(circle(x(row.value), y, 4.5, f"dot {row.tone}", said))
        parts.append(text(width - room + 12, y + 4, shown, kind="value"))
    alt = f"{title}: " + "; ".join(f"{r.label} {form(r.value)} between {form(r.low)} and {form(r.high)}" for r in rows)
    return figure(title, "".join(parts), width=width, height=bottom + (42 if axis else 24), alt=alt + ".", note=note)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    room = (max(values) - min(values)) * 0.06 or abs(values[0]) * 0.06 or 1.0
    return min(values) - room, max(values) + room


def calibration_chart(
    title: str,
    series: Mapping[str, Sequence[Bin]],
    *,
    x_axis: str = "predicted",
    y_axis: str = "observed",
    form: Callable[[object], str] = percent,
    note: str = "",
) -> Html:
    """Observed shares over predicted ones, with intervals; the dashed diagonal is perfect, a dot's area is its pairs."""
    known = [v for bins in series.values() for b in bins for v in (b.predicted, b.observed)]
    high = min(1.0, max(known, default=1.0) * 1.12) or 1.0
    most = max((b.count for bins in series.values() for b in bins), default=1)
    top, bottom, left = 28.0, 298.0, 62.0
    x, y = Scale(0.0, high, left, WIDTH - 18), Scale(0.0, high, bottom, top)
    values = ticks(0.0, high, 5)
    parts = [
        vertical_axis(y, values, left, WIDTH - 18, form, y_axis),
        horizontal_axis(x, values, top, bottom, form, x_axis),
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
            said = f"{name}: predicted {form(b.predicted)}, observed {form(b.observed)}, {b.count:,} pairs"
            radius = 3 + 5 * math.sqrt(b.count / most)
            parts.append(circle(x(b.predicted) + shift, y(b.observed), radius, f"dot {colour}", said))
    alt = f"{title}: observed against predicted shares for {', '.join(series)}; the diagonal is perfect calibration."
    return figure(title, "".join(parts), width=WIDTH, height=bottom + 42, alt=alt, note=note, key=legend(list(series)))
