"""A chart of time spans, one below the other.

Numbers without a stated reason are pixels or numbers of ticks, chosen by eye.
"""

from collections.abc import Sequence
from datetime import datetime

from recommender.report.axes import (
    LABEL_PX,
    NUM_COLOURS,
    WIDE,
    Html,
    Scale,
    figure,
    horizontal_axis,
    label_columns,
    month,
    month_ticks,
    rectangle,
    text,
)


def timeline(title: str, spans: Sequence[tuple[str, datetime, datetime]], *, note: str = "") -> Html:
    """Draw a bar for each span (label, start, end), over an axis of months."""
    left = 24 + LABEL_PX * max(label_columns(label) for label, _, _ in spans)
    low, high = min(s.timestamp() for _, s, _ in spans), max(e.timestamp() for _, _, e in spans)
    x = Scale(low, high, left, WIDE - 30)
    pitch, top = 26.0, 4.0
    bottom = top + pitch * len(spans)
    parts = [horizontal_axis(x, month_ticks(low, high), top, bottom, month)]
    for k, (label, start, end) in enumerate(spans):
        y = top + k * pitch + 5
        tooltip = f"{label}: {start:%Y-%m-%d} to {end:%Y-%m-%d}"
        parts.append(text(left - 10, y + 12, label, anchor="end"))
        width = x(end.timestamp()) - x(start.timestamp())
        parts.append(rectangle(x(start.timestamp()), y, width, pitch - 10, f"c{k % NUM_COLOURS}", tooltip))
    alt = f"{title}: " + "; ".join(f"{label} from {s:%Y-%m-%d} to {e:%Y-%m-%d}" for label, s, e in spans) + "."
    return figure(title, "".join(parts), width=WIDE, height=bottom + 24, alt=alt, note=note)
