"""The validation page's pictures of the log by day: volume, hours, weekdays and amounts."""

import numpy as np

from recommender.datasets.statistics import Statistics
from recommender.report import Html, Section, bar_chart, line_chart

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHOWN_DAYS = 400
"""Days that are drawn: a year, and what differs from it. A line of more points can no longer be read."""


def days_section(found: Statistics) -> Section:
    """Draw the newest days of a log."""
    first = max(0, found.num_days - SHOWN_DAYS)
    places = np.arange(first, found.num_days)

    def points(values: np.ndarray) -> list[tuple[float, float]]:
        return [(float(place - found.num_days + 1), float(values[place])) for place in places]

    def line(title: str, series: dict[str, np.ndarray]) -> Html:
        drawn = {name: points(values) for name, values in series.items()}
        return line_chart(title, drawn, x_axis=f"days before {found.last_day}")

    rows_D = found.figure("rows")
    figures = [line("Events and users by day", {"events": rows_D, "users": found.figure("users")})]
    amount_D = found.figure("log:amount")
    if np.isfinite(amount_D[places]).any():
        figures.append(line("Typical amount of a line by day", {"geometric mean": np.exp(amount_D)}))
    hours_H = found.hours_DH.sum(axis=0)
    hours = {str(hour): float(hours_H[hour]) for hour in range(24)}
    figures.append(bar_chart("Events by local hour", hours, columns=True, axis="events"))
    weekdays = {name: float(rows_D[found.weekdays_D == day].sum()) for day, name in enumerate(WEEKDAYS)}
    figures.append(bar_chart("Events by weekday", weekdays, columns=True, axis="events"))
    return Section("Day by day", "An accident in an export usually shows here first.", figures=figures)
