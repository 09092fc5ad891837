"""Alert rules, dashboard and documentation made from the list of metrics.

`python -m serving.monitoring` writes them again after the list has changed.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from serving.monitoring.alerts import ALERTS
from serving.monitoring.listed import Alert, Listed
from serving.monitoring.metrics import GROUPS, METRICS

FOLDER = Path("k8s/components/monitoring")
PAGE = Path("docs/serving.md")
BEGIN, END = "<!-- made by python -m serving.monitoring -->", "<!-- end of what is made -->"
NOTE = "# Made by `python -m serving.monitoring` from serving/monitoring/{metrics,alerts}.py.\n"
HAS_TORCHSERVE = json.dumps([{"op": "test", "path": "/spec/template/spec/containers/1/name", "value": "torchserve"}])
"""A patch that keeps kustomize from rendering after a component that took TorchServe away, whose port is scraped."""
PANEL_WIDTH, PANEL_HEIGHT, PANELS_A_ROW = 8, 7, 3
"""Grafana's grid has 24 columns."""


def alerts_on(metric: Listed) -> list[Alert]:
    """The alerts that are listed beside a metric."""
    return [alert for alert in ALERTS if alert.on == metric.name]


def rules() -> dict[str, Any]:
    """The alerts as a PrometheusRule of the Prometheus operator."""
    groups = []
    for title, listed in GROUPS.items():
        alerts = [
            {
                "alert": alert.name,
                "expr": alert.expression,
                "for": f"{alert.minutes}m",
                "labels": {"severity": alert.severity},
                "annotations": {"summary": metric.meaning, "action": alert.action},
            }
            for metric in listed
            for alert in alerts_on(metric)
        ]
        groups.append({"name": title.lower().replace(" ", "-"), "rules": alerts})
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "campaign-serving"},
        "spec": {"groups": groups},
    }


def dashboard() -> dict[str, Any]:
    """A Grafana dashboard with one panel for each metric."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, listed in GROUPS.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for place, metric in enumerate(listed):
            row, column = divmod(place, PANELS_A_ROW)
            where = {"x": column * PANEL_WIDTH, "y": y + row * PANEL_HEIGHT, "w": PANEL_WIDTH, "h": PANEL_HEIGHT}
            panels.append(_panel(metric, where))
        y += -(-len(listed) // PANELS_A_ROW) * PANEL_HEIGHT
    numbered = [{"id": number, **panel} for number, panel in enumerate(panels, start=1)]
    return {
        "title": "Campaign recommender: serving",
        "uid": "campaign-serving",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": numbered,
    }


def _panel(metric: Listed, where: dict[str, int]) -> dict[str, Any]:
    labels = f" by ({', '.join(metric.labels)})" if metric.labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name
    if metric.kind == "histogram":
        queries = {
            f"p{percent}": f"histogram_quantile(0.{percent}, sum by (le) (rate({metric.name}_bucket[5m])))"
            for percent in (50, 99)
        }
    elif metric.kind == "counter":
        queries = {legend: f"sum{labels} (rate({metric.name}[5m]))"}
    else:
        queries = {legend: f"max{labels} ({metric.name})"}
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": name}
        for place, (name, query) in enumerate(queries.items())
    ]
    return {
        "type": "timeseries",
        "title": metric.name,
        "description": metric.meaning,
        "datasource": {"type": "prometheus"},
        "fieldConfig": {"defaults": {"unit": _unit(metric)}, "overrides": []},
        "gridPos": where,
        "targets": targets,
    }


def _unit(metric: Listed) -> str:
    if metric.kind == "counter":
        return "ops"
    endings = {"_seconds": "s", "_bytes": "bytes"}
    return next((unit for ending, unit in endings.items() if metric.name.endswith(ending)), "short")


def tables() -> str:
    """The list of metrics and the list of alerts as Markdown."""
    lines = ["| metric | type, labels | meaning |", "|---|---|---|"]
    for metric in METRICS.values():
        kind = ", ".join([metric.kind, *(f"`{label}`" for label in metric.labels)])
        lines.append(f"| `{metric.name}` | {kind} | {metric.meaning} |")
    lines += ["", "| alert | severity | when, and for how long | what to do |", "|---|---|---|---|"]
    for metric in METRICS.values():
        for alert in alerts_on(metric):
            lasting = f" for {alert.minutes} min" if alert.minutes else ""
            lines.append(f"| {alert.name} | {alert.severity} | `{alert.expression}`{lasting} | {alert.action} |")
    return "\n".join(lines)


def files(root: Path) -> dict[Path, str]:
    """Every file that is made from the list, with its text, below the repository's `root`."""
    page = (root / PAGE).read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "labels": [{"pairs": {"app.kubernetes.io/part-of": "campaign-recommender"}}],
        "resources": ["alerts.yaml", "scraping.yaml"],
        "configMapGenerator": [
            {
                "name": "campaign-serving-dashboard",
                "files": ["dashboard.json"],
                "options": {"labels": {"grafana_dashboard": "1"}, "disableNameSuffixHash": True},
            }
        ],
        "patches": [{"target": {"kind": "Deployment", "name": "campaign-serving"}, "patch": HAS_TORCHSERVE}],
        "replacements": [
            {
                "source": {"kind": "ClusterNames", "name": "names", "fieldPath": "spec.monitoring.release"},
                "targets": [
                    {
                        "select": {"kind": kind},
                        "fieldPaths": ["metadata.labels.release"],
                        "options": {"create": True},
                    }
                    for kind in ("PrometheusRule", "ServiceMonitor")
                ],
            }
        ],
    }
    return {
        root / FOLDER / "kustomization.yaml": NOTE + yaml.safe_dump(kustomization, sort_keys=False),
        root / FOLDER / "alerts.yaml": NOTE + yaml.safe_dump(rules(), sort_keys=False, width=1_000),
        root / FOLDER / "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        root / PAGE: f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}",
    }
