"""Scales, ticks, marks and number formats that the charts share.

Charts are inline SVG without scripts or libraries, a few kilobytes each. The page's style sheet colours them for light
and dark themes. Each mark has its exact value as a tooltip, and each chart has a sentence for readers who do not see
it.

Numbers without a stated reason are pixels or numbers of ticks, chosen by eye.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

WIDTH, WIDE = 540.0, 1104.0
"""Widths of a chart that takes half the page's column, and of one that takes all of it: two halves and a gap."""
NUM_COLOURS = 6
"""Colours of series in the style sheet (c0 … c5). Further series start over."""
CHARACTER_PX = 6.4
"""Mean width of a Latin character at the charts' font size, by eye. A Chinese one is twice as wide."""
LABEL_PX = 6.6
"""Room for a column of a label or tick: a little over `CHARACTER_PX`, so that none is cut for a pixel."""


class Html(str):
    """Markup that is already escaped. Every other string is escaped before it enters a page."""

    __slots__ = ()


@dataclass(frozen=True)
class Scale:
    """A linear scale from data units [low, high] to pixels [start, end]. Values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        span = self.high - self.low or 1.0
        share = min(1.0, max(0.0, (value - self.low) / span))
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """List about `count` round numbers (1, 2, 2.5 or 5 times a power of ten) in [low, high]. Five, by eye."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    # The factor 1.0001 and the 1e-9 below absorb rounding errors, so that a tick on the edge is kept.
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if rough <= power * factor * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def month_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """List the beginnings of months (UTC epoch seconds) in [low, high], thinned to about `count` (seven, by eye)."""
    start, months = datetime.fromtimestamp(low, UTC), []
    year, month = start.year, start.month
    while (moment := datetime(year, month, 1, tzinfo=UTC).timestamp()) <= high:
        if moment >= low:
            months.append(moment)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return months[:: max(1, math.ceil(len(months) / count))] or ticks(low, high, 3)


def number(value: object) -> str:
    """Write a number as people read it: 1,469,307 · 0.849 · 12.3 · 4.1e-07, and `–` for a missing one.

    About three digits that count, whatever the size.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:  # larger ones are no exact counts: a float has 53 bits
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}".rstrip("0") if size >= 0.001 else f"{value:.2g}"


def metric(value: object) -> str:
    """Write a metric with three decimals, so that a column of them can be compared: 0.85 -> 0.850."""
    return f"{value:,.3f}" if isinstance(value, int | float) and math.isfinite(value) else "–"


def percent(value: object) -> str:
    """Write a share as per cent: 0.123 -> 12.3 %."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    rounded = f"{100 * value:.2f}" if 0 < abs(value) < 0.01 else f"{100 * value:.1f}"
    return f"{rounded.removesuffix('.0')} %"


def month(epoch_s: object) -> str:
    """Write UTC epoch seconds as `Mar 2017`."""
    return datetime.fromtimestamp(float(str(epoch_s)), UTC).strftime("%b %Y")


def label_columns(label: str) -> int:
    """Count the columns that a label takes.

    A Chinese, Japanese or Korean character and most emoji take two, a mark on another character none, all others one.
    """
    return sum(map(_columns, label))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(label: str, width_px: float) -> str:
    """Cut a label with an ellipsis so that it takes at most `width_px` at the charts' font size.

    It is cut between characters, and a mark stays with the character that it belongs to.
    """
    room = max(3, int(width_px / CHARACTER_PX))
    if label_columns(label) <= room:
        return label
    kept, taken = 0, 0
    for character in label:
        taken += _columns(character)
        if taken > room - 1:
            break
        kept += 1
    return label[:kept].rstrip() + "…"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a line. `kind` is a class of the style sheet, here and below."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def text(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "label") -> str:
    """Draw text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(content)}</text>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Draw a line through points."""
    return f'<polyline points="{_path(points)}" class="{kind}"/>'


def polygon(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Draw a filled area."""
    return f'<polygon points="{_path(points)}" class="{kind}"/>'


def circle(x: float, y: float, radius: float, kind: str, tooltip: str) -> str:
    """Draw a dot."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{kind}">{hover(tooltip)}</circle>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, tooltip: str) -> str:
    """Draw a bar. A negative size counts as 0."""
    size = f'width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="1.5" class="{kind}">{hover(tooltip)}</rect>'


def hover(tooltip: str) -> str:
    """The words that a browser shows while the pointer is over a mark."""
    return f"<title>{escape(tooltip)}</title>"


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def horizontal_axis(
    scale: Scale, values: Sequence[float], top: float, bottom: float, form: Callable[[float], str], label: str = ""
) -> str:
    """Draw vertical grid lines with their values below, and the axis label."""
    parts = [line(scale(v), top, scale(v), bottom, "grid") for v in values]
    parts += [text(scale(v), bottom + 16, form(v), anchor="middle", kind="tick") for v in values]
    if label:
        parts.append(text((scale.start + scale.end) / 2, bottom + 34, label, anchor="middle", kind="axis"))
    return "".join(parts)


def vertical_axis(
    scale: Scale, values: Sequence[float], left: float, right: float, form: Callable[[float], str], label: str = ""
) -> str:
    """Draw horizontal grid lines with their values to the left, and the axis label above them."""
    parts = [line(left, scale(v), right, scale(v), "grid") for v in values]
    parts += [text(left - 7, scale(v) + 4, form(v), anchor="end", kind="tick") for v in values]
    if label:
        parts.append(text(2, min(scale.start, scale.end) - 12, label, kind="axis"))
    return "".join(parts)


def legend(names: Sequence[str]) -> str:
    """Explain the colours, in HTML so that it wraps. One series needs no legend."""
    if len(names) < 2:
        return ""
    entries = "".join(
        f'<span><i class="key c{k % NUM_COLOURS}"></i>{escape(name)}</span>' for k, name in enumerate(names)
    )
    return f'<div class="legend" aria-hidden="true">{entries}</div>'


def figure(title: str, body: str, *, width: float, height: float, alt: str, note: str = "", key: str = "") -> Html:
    """Put heading, legend (`key`), chart and note into a `<figure>`. `alt` describes the chart for screen readers."""
    caption = f"<figcaption>{escape(title)}</figcaption>"
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    svg = (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" '
        f'aria-label="{escape(alt)}">{body}</svg>'
    )
    wide = ' class="wide"' if width > 700 else ""  # any bound between WIDTH and WIDE
    return Html(f"<figure{wide}>{caption}{key}{svg}{below}</figure>")
