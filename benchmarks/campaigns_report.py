"""The report of the campaign benchmark: every ranker's metrics with intervals over households, and its tables.

Shapes: N pairs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured_on import measured_on
from recommender.evaluation.document import AtThreshold, Estimate
from recommender.evaluation.intervals import Bootstrap, Resampled, resample
from recommender.evaluation.judgement import Report
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.pairs import PeriodPairs, column
from recommender.evaluation.thresholds import base_rate, figures_at, resolved
from recommender.features.training_set import TrainingSet

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("auc", "ap", "log_loss", "ece")
TITLES = {"auc": "AUC", "ap": "AP", "log_loss": "log loss", "ece": "ECE"}
AGAINST = ("logistic", "lightgbm")
"""Rankers that are always measured. Every other one is compared with them."""
MARK = {"auc": 0.86, "ap": 0.58, "log_loss": 0.262}
"""The goal, as in the README. The report has a separate row for it, also if it is missed."""
TUNING = Path("reports/tuning")


@dataclass(frozen=True, eq=False)
class Row:
    """One ranker: its scores of the final test [N] and what they cost, or why there are none."""

    ranker: str
    score_N: NDArray[np.float64] | None
    fit_seconds: float = 0.0
    hyperparameters: Mapping[str, Any] | None = None
    failed: str = ""


def report_of(rows: Sequence[Row], data: TrainingSet, test: PeriodPairs, *, seed: int) -> dict[str, Any]:
    """All rows with their intervals, overall and by campaign type: the content of campaigns.json."""
    redeemed_N = test.labels.redeemed_N.astype(np.float64)
    judged = {row.ranker: ScoredPairs(redeemed_N, row.score_N, test.users_N) for row in rows if row.score_N is not None}
    bootstrap = Bootstrap(seed=seed)
    overall = resample(judged, bootstrap, METRICS)
    usual = base_rate(data, test.starts)
    at = figures_at(resolved(Report().thresholds, usual), judged, bootstrap)
    types_N = np.array([str(value) for value in column(data, "campaign_type")[test.mask].tolist()], dtype=object)
    by_type = {}
    for kind in sorted(set(types_N.tolist())):
        mask_N = types_N == kind
        part = {
            name: ScoredPairs(one.redeemed_N[mask_N], one.score_N[mask_N], one.users_N[mask_N])
            for name, one in judged.items()
        }
        by_type[kind] = (resample(part, bootstrap, METRICS), int(mask_N.sum()), int(redeemed_N[mask_N].sum()))
    return {
        **measured_on(),
        "set": data.data_hash,
        "test": {
            "from": test.starts.isoformat(),
            "to": test.ends.isoformat(),
            "pairs": len(redeemed_N),
            "redeemed": int(redeemed_N.sum()),
            "households": len(np.unique(test.users_N)),
            "campaigns": len(np.unique(test.examples.campaigns_N)),
            "types": {kind: {"pairs": pairs, "redeemed": taken} for kind, (_, pairs, taken) in by_type.items()},
        },
        "intervals": {"over": "households", **asdict(bootstrap)},
        "mark": MARK,
        "base_rate": None if usual is None else usual.model_dump(),
        "nobody": {"accuracy": _rounded(at.nobody)},
        "rankers": {
            row.ranker: _ranker(row, overall, {kind: drawn for kind, (drawn, _, _) in by_type.items()})
            | {"at_thresholds": [_at(one) for one in at.rankers.get(row.ranker, [])]}
            for row in rows
        },
    }


def _ranker(row: Row, overall: Resampled, by_type: Mapping[str, Resampled]) -> dict[str, Any]:
    if row.score_N is None:
        return {"failed": row.failed}
    point = overall.point[row.ranker]
    return {
        "fit_seconds": round(row.fit_seconds, 2),
        "tuning_trials": tuning_trials(row.ranker),
        "hyperparameters": dict(row.hyperparameters or {}),
        **_figures(row.ranker, overall),
        "reaches_mark": {
            name: bool(point[name] <= mark if name == "log_loss" else point[name] >= mark)
            for name, mark in MARK.items()
        },
        "types": {kind: _figures(row.ranker, drawn) for kind, drawn in by_type.items()},
    }


def _figures(ranker: str, drawn: Resampled) -> dict[str, Any]:
    """Each metric, and its gain over each of `AGAINST` on the same draws (more is better), with intervals."""
    against = {
        other: {name: _rounded(Estimate.of(drawn.gain(ranker, other, name))) for name in METRICS}
        for other in AGAINST
        if other != ranker and other in drawn.point
    }
    return {
        "metrics": {name: _rounded(Estimate.of(drawn.estimate(ranker, name))) for name in METRICS},
        "against": against,
    }


def _at(one: AtThreshold) -> dict[str, Any]:
    """Counts and figures at a threshold."""
    figures = {name: _rounded(of) for name, of in one.metrics.items()}
    counts = one.model_dump(exclude={"metrics", "accuracy_over_nobody"})
    return {**counts, **figures, "accuracy_over_nobody": _rounded(one.accuracy_over_nobody)}


def _rounded(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in estimate.model_dump().items()}


def tuning_trials(ranker: str, folder: Path = TUNING) -> int:
    """How many configurations were tried to choose the ranker's defaults. 0 where no search is on record."""
    try:
        return len(json.loads((folder / f"{ranker}.json").read_text(encoding="utf-8"))["trials"])
    except (OSError, ValueError, KeyError):
        return 0


def tables(content: Mapping[str, Any]) -> list["Table"]:
    """Two tables: all campaigns with gains over each of `AGAINST`, then AUC and log loss by campaign type."""
    from rich.table import Table

    test = content["test"]
    title = f"Final test: {test['pairs']:,} pairs, {test['redeemed']:,} redeemed, {test['households']:,} households"
    over = [f"log loss gain over {other}" for other in AGAINST]
    overall = Table(
        "ranker", *(TITLES[name] for name in METRICS), *over, "trials", "fit s", title=title, title_justify="left"
    )
    overall.add_row(
        "the mark", *(f"{content['mark'][name]:.3f}" if name in content["mark"] else "" for name in METRICS)
    )
    overall.add_section()
    kinds = list(test["types"])
    by_type = Table(
        "ranker", *(f"{kind}: AUC / log loss" for kind in kinds), title="By campaign type", title_justify="left"
    )
    for name, row in sorted(content["rankers"].items(), key=_by_log_loss):
        if "failed" in row:
            overall.add_row(name, "[red]failed[/]")
            continue
        figures = [_marked(row, metric) for metric in METRICS]
        gains = [_gain(row["against"].get(other, {}).get("log_loss")) for other in AGAINST]
        overall.add_row(name, *figures, *gains, str(row["tuning_trials"]), f"{row['fit_seconds']:.1f}")
        parts = [row["types"][kind]["metrics"] for kind in kinds]
        by_type.add_row(name, *(f"{_number(p['auc']['value'])} / {_number(p['log_loss']['value'])}" for p in parts))
    return [overall, by_type]


def against_mark(content: Mapping[str, Any]) -> str:
    """One sentence: which rankers reach the mark, or how far the best ones are from it."""
    rows = {name: row for name, row in content["rankers"].items() if "failed" not in row}
    reached = [name for name, row in rows.items() if all(row["reaches_mark"].values())]
    if reached:
        return f"the mark is reached by {', '.join(reached)}"
    parts = []
    for metric, mark in content["mark"].items():
        pick = min if metric == "log_loss" else max
        best = pick(rows, key=lambda name: rows[name]["metrics"][metric]["value"])
        parts.append(f"{TITLES[metric]} {rows[best]['metrics'][metric]['value']:.4f} ({best}) for {mark}")
    return "the mark is missed; the best: " + ", ".join(parts)


def _by_log_loss(item: tuple[str, Mapping[str, Any]]) -> float:
    return float(item[1]["metrics"]["log_loss"]["value"]) if "failed" not in item[1] else float("inf")


def _marked(row: Mapping[str, Any], metric: str) -> str:
    value = _number(row["metrics"][metric]["value"])
    return f"[green]{value}[/]" if row["reaches_mark"].get(metric) else value


def _gain(gain: Mapping[str, float | None] | None) -> str:
    if gain is None or gain["low"] is None or gain["high"] is None:
        return ""
    colour = "green" if gain["low"] > 0 else "red" if gain["high"] < 0 else "dim"
    text = f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    return f"[{colour}]{text}[/]".replace("[+", r"\[+").replace("[-", r"\[-")  # Rich would read [+0.1 as a style


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
