"""Line charts for curves and time series.

Numbers without a stated reason are pixels or numbers of ticks, chosen by eye.
"""

import math
from collections.abc import Callable, Mapping, Sequence

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
    legend,
    month,
    month_ticks,
    number,
    polygon,
    polyline,
    ticks,
    vertical_axis,
)

MAX_DOTS = 30
"""A line of more points has no dots, which would touch each other."""


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_axis: str = "",
    y_axis: str = "",
    x_form: Callable[[object], str] = number,
    y_form: Callable[[object], str] = number,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
    reference: Sequence[tuple[float, float]] = (),
    months: bool = False,
    note: str = "",
    wide: bool = False,
) -> Html:
    """Draw lines through points.

    Args:
        title: heading.
        series: name -> points (x, y) in their order. A y that is NaN breaks the line.
        x_axis: label of the x axis.
        y_axis: label of the y axis.
        x_form: how x is written.
        y_form: how y is written.
        x_range: ends of the x axis; by default those of the data.
        y_range: ends of the y axis; by default those of the data with some space.
        bands: name of a series -> (x, low, high), shaded around it.
        reference: points of a dashed line.
        months: x is in UTC epoch seconds, and its axis shows months.
        note: text below the chart.
        wide: takes the whole column of the page.
    """
    bands = bands or {}
    width, top, bottom = (WIDE if wide else WIDTH), (28.0 if y_axis else 10.0), 226.0
    finite = [(x, y) for points in series.values() for x, y in points if math.isfinite(y)] or [(0.0, 0.0), (1.0, 1.0)]
    edges = [y for band in bands.values() for _, low, high in band for y in (low, high) if math.isfinite(y)]
    x_low, x_high = x_range or (min(x for x, _ in finite), max(x for x, _ in finite))
    y_low, y_high = y_range or _padded([y for _, y in finite] + edges)
    y_values = ticks(y_low, y_high, 4)
    left = 14 + LABEL_PX * max(len(y_form(v)) for v in y_values)
    x, y = Scale(x_low, x_high, left, width - 18), Scale(y_low, y_high, bottom, top)
    x_values = month_ticks(x_low, x_high) if months else ticks(x_low, x_high, 6)
    x_text: Callable[[object], str] = month if months else x_form
    parts = [vertical_axis(y, y_values, left, width - 18, y_form, y_axis)]
    parts.append(horizontal_axis(x, x_values, top, bottom, x_text, x_axis))
    if reference:
        parts.append(polyline([(x(a), y(b)) for a, b in reference], "reference"))
    for k, (name, points) in enumerate(series.items()):
        band = [b for b in bands.get(name, ()) if math.isfinite(b[1]) and math.isfinite(b[2])]
        outline = [(x(a), y(high)) for a, _, high in band] + [(x(a), y(low)) for a, low, _ in reversed(band)]
        if outline:
            parts.append(polygon(outline, f"band c{k % NUM_COLOURS}"))
        for run in _runs(points):
            parts.append(polyline([(x(a), y(b)) for a, b in run], f"line c{k % NUM_COLOURS}"))
        if len(points) <= MAX_DOTS:
            dots = [(a, b, f"{name}: {y_form(b)} at {x_text(a)}") for a, b in points if math.isfinite(b)]
            parts += [circle(x(a), y(b), 3.0, f"dot c{k % NUM_COLOURS}", tooltip) for a, b, tooltip in dots]
    ends = "; ".join(f"{name} ends at {y_form(points[-1][1])}" for name, points in series.items() if points)
    height = bottom + (42 if x_axis else 24)
    return figure(
        title, "".join(parts), width=width, height=height, alt=f"{title}. {ends}.", note=note, key=legend(list(series))
    )


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut a line where y is NaN."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return the range of values with some space, from zero if they begin near it, so that heights can be compared."""
    low, high = min(values), max(values)
    padding = (high - low) * share or abs(high) * share or 1.0
    return (0.0 if 0 <= low < 0.25 * high else low - padding), high + padding
