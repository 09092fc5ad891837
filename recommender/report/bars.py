"""Bar charts for amounts and shares, from zero.

Numbers without a stated reason are pixels or numbers of ticks, chosen by eye.
"""

import math
from collections.abc import Callable, Mapping

from recommender.report.axes import (
    LABEL_PX,
    NUM_COLOURS,
    WIDE,
    WIDTH,
    Html,
    Scale,
    figure,
    horizontal_axis,
    label_columns,
    legend,
    line,
    number,
    rectangle,
    shortened,
    text,
    ticks,
    vertical_axis,
)


def bar_chart(
    title: str,
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    form: Callable[[object], str] = number,
    axis: str = "",
    note: str = "",
    columns: bool = False,
    stacked: bool = False,
    wide: bool = False,
    top: float | None = None,
) -> Html:
    """Draw bars from zero.

    Args:
        title: heading.
        values: label -> value, or series -> label -> value for several bars at each label.
        form: how values are written.
        axis: label of the value axis.
        note: text below the chart.
        columns: vertical bars, for months and bins. Horizontal ones keep long labels readable.
        stacked: puts the series of a label on one another instead of beside one another.
        wide: takes the whole column of the page.
        top: upper end of the value axis; by default the largest value.
    """
    series = _series(values)
    labels = list(dict.fromkeys(label for bars in series.values() for label in bars))
    heights = [
        (sum if stacked else max)([max(0.0, bars.get(label, 0.0)) for bars in series.values()]) for label in labels
    ]
    high = top if top is not None else max(heights, default=0.0) or 1.0
    draw = _columns if columns else _rows
    body, width, height = draw(series, labels, high, form, axis, stacked, WIDE if wide else WIDTH)
    largest = max(range(len(labels)), key=heights.__getitem__, default=None)
    alt = f"{title}: {len(labels)} bars" + (f", the largest is {labels[largest]}" if largest is not None else "") + "."
    return figure(title, body, width=width, height=height, alt=alt, note=note, key=legend(list(series)))


def _series(values: Mapping[str, float] | Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    if all(isinstance(value, Mapping) for value in values.values()) and values:
        return {name: dict(bars) for name, bars in values.items() if isinstance(bars, Mapping)}
    return {"": {name: float(value) for name, value in values.items() if not isinstance(value, Mapping)}}


def _rows(
    series: dict[str, dict[str, float]],
    labels: list[str],
    high: float,
    form: Callable[[object], str],
    axis: str,
    stacked: bool,
    width: float,
) -> tuple[str, float, float]:
    left = min(0.38 * width, 14 + LABEL_PX * max(map(label_columns, labels), default=0))
    x = Scale(0.0, high, left, width - (16 if stacked else 64))
    bars_a_row = 1 if stacked else len(series)
    thick = 15.0 if bars_a_row == 1 else 10.0
    pitch = thick * bars_a_row + (9 if bars_a_row == 1 else 12)
    bottom = 6 + pitch * len(labels)
    parts = [horizontal_axis(x, ticks(0.0, high, 4), 0, bottom, form, axis)]
    for row, label in enumerate(labels):
        y = 6 + row * pitch
        parts.append(text(left - 8, y + thick * bars_a_row / 2 + 4, shortened(label, left - 8), anchor="end"))
        base = 0.0
        for k, (name, bars) in enumerate(series.items()):
            value = bars.get(label)
            if value is None or math.isnan(value):
                continue
            start, place = (base, y) if stacked else (0.0, y + k * thick)
            tooltip = f"{label} · {name}: {form(value)}" if name else f"{label}: {form(value)}"
            bar_width = x(start + value) - x(start)
            parts.append(rectangle(x(start), place, bar_width, thick - 1, f"c{k % NUM_COLOURS}", tooltip))
            if not stacked:
                parts.append(text(x(value) + 6, place + thick / 2 + 3.5, form(value), kind="value"))
            base += value
    return "".join(parts), width, bottom + (42 if axis else 24)


def _columns(
    series: dict[str, dict[str, float]],
    labels: list[str],
    high: float,
    form: Callable[[object], str],
    axis: str,
    stacked: bool,
    width: float,
) -> tuple[str, float, float]:
    top, bottom = (28.0 if axis else 10.0), 206.0
    y = Scale(0.0, high, bottom, top)
    values = ticks(0.0, high, 4)
    left = 14 + LABEL_PX * max(len(form(v)) for v in values)
    pitch = (width - left - 8) / max(1, len(labels))
    parts = [vertical_axis(y, values, left, width - 4, form, axis)]
    bars_a_label = 1 if stacked else len(series)
    thick = max(1.0, pitch * 0.78 / bars_a_label)
    every = max(1, math.ceil((max(map(label_columns, labels), default=1) * LABEL_PX + 8) / pitch))
    for place, label in enumerate(labels):
        x = left + place * pitch + pitch * 0.11
        base = 0.0
        for k, (name, bars) in enumerate(series.items()):
            value = bars.get(label)
            if value is None or math.isnan(value):
                continue
            start = base if stacked else 0.0
            tooltip = f"{label} · {name}: {form(value)}" if name else f"{label}: {form(value)}"
            height = y(start) - y(start + value)
            left_edge = x if stacked else x + k * thick
            parts.append(rectangle(left_edge, y(start + value), thick - 0.5, height, f"c{k % NUM_COLOURS}", tooltip))
            base += value
        if place % every == 0:
            parts.append(text(left + (place + 0.5) * pitch, bottom + 16, label, anchor="middle", kind="tick"))
    parts.append(line(left, bottom, width - 4, bottom, "base"))
    return "".join(parts), width, bottom + 26
