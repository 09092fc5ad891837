"""The list of metrics is the whole truth: what is registered, documented, alerted on and drawn."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from recommender.decisions.log import DecisionLog
from recommender.settings import Settings
from serving.gateway.decision_metrics import DecisionMetrics
from serving.gateway.metrics import Metrics
from serving.monitoring.made import files
from serving.monitoring.metrics import GROUPS, METRICS

ROOT = Path(__file__).parents[2]
ALERTS = [(metric, alert) for metric in METRICS.values() for alert in metric.alerts]


_NAME = re.compile(r"\brecommender_[a-z_]+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def names_in(expression: str) -> set[str]:
    """The metrics that PromQL text names, a histogram's series under the histogram's name."""
    names = set(_NAME.findall(expression))
    return {name if name in METRICS else _SUFFIX.sub("", name) for name in names}


def test_every_registered_metric_is_listed_and_every_listed_one_is_registered(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.registry.register(DecisionMetrics(DecisionLog.of(Settings(home=tmp_path))))
    registered = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in metrics.registry.collect()
    }
    assert registered == {metric.name: (metric.kind, metric.meaning) for metric in METRICS.values()}


def test_no_metric_is_made_beside_the_list() -> None:
    makers = re.compile(r"\b(?:Counter|Gauge|Histogram|Summary)\(\s*[\"']")
    beside = [path for path in (ROOT / "serving").rglob("*.py") if makers.search(path.read_text(encoding="utf-8"))]
    assert beside == []


def test_no_metric_and_no_alert_is_listed_twice() -> None:
    assert sum(map(len, GROUPS.values())) == len(METRICS)
    assert len({alert.name for _, alert in ALERTS}) == len(ALERTS)


def test_an_alert_names_its_own_metric_and_only_labels_that_this_has() -> None:
    for metric, alert in ALERTS:
        assert metric.name in names_in(alert.expression), alert.name
        assert names_in(alert.expression) <= METRICS.keys(), alert.name
        used = set(re.findall(r"(\w+)=", alert.expression))
        for grouped in re.findall(r"by \(([^)]*)\)", alert.expression):
            used |= set(grouped.split(", "))
        known = {label for name in names_in(alert.expression) for label in METRICS[name].labels}
        assert used <= known | {"le"}, alert.name
        assert alert.expression.count("(") == alert.expression.count(")")
        assert alert.action


def test_rules_dashboard_and_documentation_are_made_from_the_list_as_it_is() -> None:
    stale = [str(file.relative_to(ROOT)) for file, text in files(ROOT).items() if file.read_text() != text]
    assert stale == [], "write them again: python -m serving.monitoring"


def test_whatever_the_manifests_say_of_metrics_exists() -> None:
    texts = [*(ROOT / "k8s").rglob("*.yaml"), *(ROOT / "k8s").rglob("*.json")]
    named = {name: file for file in texts for expression in expressions(file) for name in names_in(expression)}
    assert named.keys() >= {metric.name for metric, _ in ALERTS}
    assert {name: file for name, file in named.items() if name not in METRICS} == {}


def test_the_dashboard_shows_every_metric_once_without_panels_that_overlap() -> None:
    panels = json.loads((ROOT / "k8s/components/monitoring/dashboard.json").read_text())["panels"]
    drawn = [panel for panel in panels if panel["type"] != "row"]
    assert [panel["title"] for panel in drawn] == list(METRICS)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    assert max(x for x, _ in taken) < 24


def expressions(file: Path) -> list[str]:
    """Every text under the keys `expr` and `query`, however deep."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(text for key, text in value.items() if key in ("expr", "query") and isinstance(text, str))
            value = list(value.values())
        if isinstance(value, list):
            for one in value:
                walk(one)

    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        walk(document)
    return found
