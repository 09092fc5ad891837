"""Pages and charts: escaped, self-contained, readable aloud."""

import math
import re
from html.parser import HTMLParser

from recommender.report import (
    Banner,
    Bin,
    Interval,
    Section,
    bar_chart,
    calibration_chart,
    interval_chart,
    line_chart,
    page,
    table,
)
from recommender.report.axes import ticks

VOID = {"meta", "line", "rect", "circle", "polyline", "polygon", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.opened.pop() == tag


def charts() -> list:
    bins = [Bin(0.1, 0.12, 0.08, 0.16, 100), Bin(0.5, 0.45, 0.3, 0.6, 20)]
    return [
        bar_chart("Rows", {"users": 3.0, "<items>": 5.0}),
        bar_chart("Months", {"a": {"x": 1.0}, "b": {"x": 2.0, "y": math.nan}}, columns=True, stacked=True),
        line_chart("ROC", {"one": [(0.0, 0.0), (0.5, math.nan), (1.0, 1.0)]}, reference=[(0, 0), (1, 1)]),
        interval_chart(
            "AUC", [Interval("all", 0.1, -0.1, 0.3), Interval("C", math.nan, math.nan, math.nan)], reference=0
        ),
        calibration_chart("Calibration", {"one": bins}),
    ]


def test_a_page_is_balanced_loads_nothing_and_says_its_verdict_before_its_pictures() -> None:
    html = page(
        "Report", Banner("HOLD", "not better"), [Section("All", figures=charts(), blocks=[table(["a"], [[1]])])]
    )
    Balance().feed(html)
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", html)
    assert html.index("HOLD") < html.index("<figure") < html.index("<table")


def test_every_picture_says_in_words_what_it_shows() -> None:
    for chart in charts():
        assert re.search(r'role="img" aria-label="[^"]{10,}"', chart)


def test_text_is_escaped_everywhere() -> None:
    evil = '<b>&"x'
    html = page(evil, Banner(evil, evil, reasons=[evil]), [Section(evil, evil, blocks=[table([evil], [[evil]])])])
    assert "<b>" not in html
    assert "<items>" not in charts()[0]


def test_charts_of_nothing_are_still_charts() -> None:
    for chart in (bar_chart("x", {}), line_chart("x", {}), interval_chart("x", []), calibration_chart("x", {"a": []})):
        Balance().feed(chart)
        assert "nan" not in chart


def test_ticks_are_round_numbers_inside_the_range() -> None:
    assert ticks(0.0, 1.0, 4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(3.0, 3.0) == [3.0]
