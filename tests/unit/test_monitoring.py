"""The list of metrics is the whole truth: what is registered, documented, alerted on and drawn."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from recommender.decisions.log import DecisionLog
from recommender.settings import Settings
from serving.gateway.decision_metrics import DecisionMetrics
from serving.gateway.metrics import Metrics
from serving.monitoring import alerts
from serving.monitoring.made import files
from serving.monitoring.metrics import GROUPS, METRICS

ROOT = Path(__file__).parents[2]
ALERTS = [(METRICS[alert.on], alert) for alert in alerts.ALERTS]


SERIES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
STORED = {f"{metric.name}{ending}": metric for metric in METRICS.values() for ending in SERIES[metric.kind]}
"""A series' name, as Prometheus stores it, and its metric."""
OF_OTHERS = {"pod", "namespace", "job", "instance"}
"""Labels that Prometheus adds when it scrapes a pod."""


@dataclass
class Read:
    """What a PromQL expression reads."""

    series: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, expression: str) -> "Read":
        """Parse an expression. ValueError: it is none, or a function gets what it does not take."""
        found = cls()

        def note(part: Any) -> None:
            if isinstance(part, promql_parser.VectorSelector):
                found.series.add(part.name)
                found.labels.update(matcher.name for matcher in part.matchers.matchers)
            elif isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
                found.labels.update(part.modifier.labels)

        promql_parser.walk(promql_parser.parse(expression), note)
        return found

    @property
    def known_labels(self) -> set[str]:
        """The labels that these series have."""
        own = {label for name in self.series & STORED.keys() for label in STORED[name].labels}
        return own | OF_OTHERS | ({"le"} if any(name.endswith("_bucket") for name in self.series) else set())


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


def test_an_alert_reads_its_own_metric_and_only_labels_that_this_has() -> None:
    for metric, alert in ALERTS:
        read = Read.of(alert.expression)
        assert metric in [STORED[name] for name in read.series], alert.name
        assert read.labels <= read.known_labels, alert.name
        assert alert.action


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(rate(recommender_answers_total[5m])", "parenthesis"),
        ("rate(recommender_answers_total)", "matrix"),
        ("rate(recommender_answers_total{variant=champion}[5m])", "champion"),
    ],
)
def test_an_expression_that_prometheus_would_refuse_is_found(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Read.of(expression)


def test_rules_dashboard_and_documentation_are_made_from_the_list_as_it_is() -> None:
    stale = [str(file.relative_to(ROOT)) for file, text in files(ROOT).items() if file.read_text() != text]
    assert stale == [], "write them again: python -m serving.monitoring"


def test_whatever_the_manifests_say_of_metrics_exists() -> None:
    texts = [*(ROOT / "k8s").rglob("*.yaml"), *(ROOT / "k8s").rglob("*.json")]
    read = {expression: Read.of(expression) for file in texts for expression in expressions(file)}
    series = set[str]().union(*(one.series for one in read.values()))
    assert {STORED[name] for name in series} >= {metric for metric, _ in ALERTS}
    assert {expression: one.labels - one.known_labels for expression, one in read.items()} == {
        key: set() for key in read
    }


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


def test_every_group_of_metrics_has_an_alert_and_no_group_of_rules_is_empty() -> None:
    spec = yaml.safe_load((ROOT / "k8s/components/monitoring/alerts.yaml").read_text())["spec"]
    ruled = {group["name"]: [rule["alert"] for rule in group["rules"]] for group in spec["groups"]}
    assert list(ruled) == [title.lower().replace(" ", "-") for title in GROUPS]
    assert [name for names in ruled.values() for name in names] == [alert.name for alert in alerts.ALERTS]
    assert all(ruled.values())
