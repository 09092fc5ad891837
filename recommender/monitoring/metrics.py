"""A report's figures in Prometheus' text format, as node_exporter's textfile collector reads them.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/. All are gauges of the last look.
"""

from collections.abc import Iterable, Mapping

from recommender.monitoring.findings import Report

PREFIX = "recommender_monitoring"
Sample = tuple[Mapping[str, str], float]


def metrics_text(report: Report) -> str:
    """The file's content."""
    ages = [one for one in report.ages if one.hours is not None]
    promised = [one for one in report.ages if one.promise_hours is not None]
    judged = [one for one in report.served if one.judged and one.ratio is not None]
    families: list[tuple[str, str, Iterable[Sample]]] = [
        ("last_run_timestamp_seconds", "When monitoring last looked.", [({}, report.now.timestamp())]),
        ("limits_broken", "Limits that are broken.", [({}, len(report.broken))]),
        ("feature_psi", "Population stability index.", [({"feature": d.name}, d.psi) for d in report.drift]),
        ("feature_importance", "Share of all importance.", [({"feature": d.name}, d.importance) for d in report.drift]),
        (
            "feature_missing_share",
            "Share of users, campaigns or pairs without a value.",
            [({"feature": d.name}, d.missing_now) for d in report.drift],
        ),
        (
            "feature_moved",
            "1 where chance alone does not explain the drift, else 0.",
            [({"feature": d.name, "over": d.over}, float(d.moved)) for d in report.drift],
        ),
        ("age_seconds", "Age of the newest row.", [({"view": a.name}, (a.hours or 0.0) * 3600) for a in ages]),
        (
            "promised_age_seconds",
            "Greatest age that the settings allow.",
            [({"view": a.name}, (a.promise_hours or 0.0) * 3600) for a in promised],
        ),
        (
            "observed_over_expected",
            "Participations that came over those that served probabilities add up to.",
            [({"campaign_type": s.campaign_type or "all"}, s.ratio or 0.0) for s in judged],
        ),
    ]
    return "".join(_family(f"{PREFIX}_{name}", what, samples) for name, what, samples in families)


def _family(name: str, what: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{_labels(labels)} {value!r}\n" for labels, value in samples]
    return f"# HELP {name} {what}\n# TYPE {name} gauge\n{''.join(lines)}" if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
