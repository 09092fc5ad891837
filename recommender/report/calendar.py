"""A calendar of a year: one square a day, the darker the more was spent.

Numbers without a stated reason are pixels, chosen by eye.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from recommender.report.axes import WIDE, Html, figure, hover, text

WEEKS = 53
CELL, LEFT, TOP = 19.0, 46.0, 18.0
NAMED_DAYS = {0: "Mon", 2: "Wed", 4: "Fri"}
LEVELS = (0.25, 0.5, 0.75)
"""Shares of the days with a purchase, by spend, at which a square becomes darker."""


def calendar(
    title: str, spent: Mapping[date, float], last: date, *, form: Callable[[float], str], note: str = ""
) -> Html:
    """Draw the 53 weeks up to `last`. `spent`: day -> money, only days with a purchase."""
    monday = last - timedelta(days=last.weekday() + 7 * (WEEKS - 1))
    amounts = sorted(spent.values())
    edges = [amounts[int(level * (len(amounts) - 1))] for level in LEVELS] if amounts else []
    parts = [
        text(LEFT - 8, TOP + (row + 0.75) * CELL, name, anchor="end", kind="tick") for row, name in NAMED_DAYS.items()
    ]
    month = 0
    for week in range(WEEKS):
        first = monday + timedelta(days=7 * week)
        # A label over a month's first whole week: the one before it would run into the next.
        if first.month != month and first.day <= 7 and week < WEEKS - 1:
            parts.append(text(LEFT + week * CELL, TOP - 6, f"{first:%b}", kind="tick"))
            month = first.month
        for row in range(7):
            day = first + timedelta(days=row)
            if day <= last:
                parts.append(_cell(day, spent.get(day), edges, LEFT + week * CELL, TOP + row * CELL, form))
    alt = f"{title}: {len(spent)} days with a purchase in the year up to {last:%Y-%m-%d}."
    return figure(title, "".join(parts), width=WIDE, height=TOP + 7 * CELL + 8, alt=alt, note=note)


def _cell(day: date, amount: float | None, edges: list[float], x: float, y: float, form: Callable[[float], str]) -> str:
    shade = 0.0 if amount is None else 0.3 + 0.7 * sum(amount > edge for edge in edges) / max(len(edges), 1)
    words = f"{day:%a %Y-%m-%d}: " + (form(amount) if amount is not None else "nothing")
    kind = "c0" if amount is not None else "empty"
    opacity = f' fill-opacity="{shade:.2f}"' if amount is not None else ""
    side = CELL - 3
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" rx="2.5" class="{kind}"{opacity}>'
        f"{hover(words)}</rect>"
    )
