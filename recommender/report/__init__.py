"""Self-contained HTML reports, with the verdict first, then charts, then numbers."""

from recommender.report.axes import Html, metric, number, percent
from recommender.report.bars import bar_chart
from recommender.report.intervals import Bin, Interval, calibration_chart, interval_chart
from recommender.report.lines import line_chart
from recommender.report.page import Banner, Section, badge, bullets, code, fold, page, paragraph, table

__all__ = [
    "Banner",
    "Bin",
    "Html",
    "Interval",
    "Section",
    "badge",
    "bar_chart",
    "bullets",
    "calibration_chart",
    "code",
    "fold",
    "interval_chart",
    "line_chart",
    "metric",
    "number",
    "page",
    "paragraph",
    "percent",
    "table",
]
