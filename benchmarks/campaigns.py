"""Every ranker on the final test of the campaign task, in one table: `make bench-campaigns`.

Each is fitted once, on what was known at `test_from`, with its defaults or the settings' dials; the final test is then read with
the labels to the end of the log. Intervals draw households with all their pairs; each ranker is compared with the logistic
regression and with LightGBM on the same draws. Nothing here chooses anything, and every reading of the final test is logged.

Shapes: N pairs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.periods import Periods
from recommender.engine.context import FitContext
from recommender.engine.machine import machine, report_at
from recommender.engine.precision import cpu_has_units
from recommender.errors import BundleError, CorruptFileError, PeriodError, RecommenderError
from recommender.evaluation.document import Estimate
from recommender.evaluation.intervals import Bootstrap, Resampled, resample
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.pairs import PeriodPairs, column, final_test_pairs
from recommender.features.training_set import TrainingSet
from recommender.models.campaign import RANKERS, ranker_class
from recommender.registry import bundle
from recommender.settings import Settings, load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import digest, write_text
from recommender.storage.published import published_training_set
from recommender.training.identity import training_code
from recommender.training.next_items import log_reading
from recommender.training.train import boundaries, fit_at

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("auc", "ap", "log_loss", "ece")
TITLES = {"auc": "AUC", "ap": "AP", "log_loss": "log loss", "ece": "ECE"}
AGAINST = ("logistic", "lightgbm")
"""Rows that are always there: every other one is held against them."""
MARK = {"auc": 0.86, "ap": 0.58, "log_loss": 0.262}
"""The goal. A row of its own; a miss is shown as a miss."""
TUNING, REPORT = Path("reports/tuning"), Path("reports/bench/campaigns.json")


@dataclass(frozen=True, eq=False)
class Row:
    """One ranker: its scores [N] with what they cost, or why there are none."""

    ranker: str
    score_N: NDArray[np.float64] | None
    fit_seconds: float = 0.0
    dials: Mapping[str, Any] | None = None
    failed: str = ""


def bench(
    training_set: Path,
    rankers: Sequence[str],
    settings: Settings,
    *,
    readings: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fit and judge `rankers` (and those of `AGAINST`); the content of `campaigns.json`. `readings`: the log of the final test.

    Raises:
        BundleError: there is no such ranker.
        PeriodError: the final test holds no pair.
    """
    for name in rankers:
        if name not in RANKERS:
            raise BundleError(f"no ranker is called {name!r}; there are {', '.join(RANKERS)}")
    data = TrainingSet.open(training_set)
    moments = boundaries(data, settings)
    test = final_test_pairs(data, Periods(moments["gate"], moments["test"], moments["live"]))
    if test is None:
        raise PeriodError(f"no pair was decided from {moments['test'].isoformat()} on: there is no final test to read")
    rows = []
    for name in dict.fromkeys((*AGAINST, *rankers)):
        row = measured(name, data, test, settings)
        if readings is not None and row.score_N is not None:
            before = f"pairs decided before {moments['test'].date()}"
            log_reading(readings, f"campaigns {data.data_hash[:12]}", name, before, settings.training.seed)
        say(f"{name}: {row.failed or f'fitted in {row.fit_seconds:.1f} s'}")
        rows.append(row)
    return document(rows, data, test, seed=settings.training.seed)


def measured(name: str, data: TrainingSet, test: PeriodPairs, settings: Settings) -> Row:
    """The ranker's scores of the test. A fit of the same data, dials and code is kept under `home`/bench and not made again."""
    dials = settings.training.rankers.get(name, {})
    training = settings.training
    identity = (
        data.manifest["content_hash"],
        dials,
        training.seed,
        training.device,
        cpu_has_units(),
        training_code(name),
    )
    place = Home.of(settings).benchmark("campaigns") / f"{name}-{digest(identity, test.starts.isoformat())[:16]}"
    context = FitContext(
        seed=training.seed,
        device=training.device,
        checkpoints=place,
        checkpoint_every_s=training.checkpoint_every_s,
    )
    try:
        try:
            ranker, seconds = bundle.load(place / "bundle"), float(bundle.lineage(place / "bundle")["fit_seconds"])
        except CorruptFileError:
            started = time.perf_counter()
            cls = ranker_class(name)
            fitted = fit_at(cls, data, test.starts, cls.Config.parse(dials, owner=name), context)
            seconds = time.perf_counter() - started
            bundle.save(fitted, place / "bundle", lineage={"fit_seconds": seconds, "data_hash": data.data_hash})
            ranker = bundle.load(place / "bundle")
        score_N = ranker.score(test.examples).redeem_N.astype(np.float64)
    except (RecommenderError, ImportError) as error:
        return Row(name, None, failed=f"{type(error).__name__}: {error}")
    return Row(name, score_N, seconds, dials)


def document(rows: Sequence[Row], data: TrainingSet, test: PeriodPairs, *, seed: int) -> dict[str, Any]:
    """All rows with their intervals, overall and by campaign type."""
    redeemed_N = test.labels.redeemed_N.astype(np.float64)
    judged = {row.ranker: ScoredPairs(redeemed_N, row.score_N, test.users_N) for row in rows if row.score_N is not None}
    bootstrap = Bootstrap(seed=seed)
    whole = resample(judged, bootstrap, METRICS)
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
        **machine(),
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
        "rankers": {
            row.ranker: {"failed": row.failed}
            if row.score_N is None
            else {
                "fit_seconds": round(row.fit_seconds, 2),
                "tuning_trials": tuning_trials(row.ranker),
                "dials": dict(row.dials or {}),
                **_figures(row.ranker, whole),
                "reaches_mark": {
                    name: bool(value <= mark if name == "log_loss" else value >= mark)
                    for name, mark in MARK.items()
                    for value in (whole.point[row.ranker][name],)
                },
                "types": {kind: _figures(row.ranker, drawn) for kind, (drawn, _, _) in by_type.items()},
            }
            for row in rows
        },
    }


def _figures(ranker: str, drawn: Resampled) -> dict[str, Any]:
    """Each metric, and its gain over each of `AGAINST` on the same draws (more is better), with intervals."""
    against = {
        other: {name: _short(Estimate.of(drawn.gain(ranker, other, name))) for name in METRICS}
        for other in AGAINST
        if other != ranker and other in drawn.point
    }
    return {
        "metrics": {name: _short(Estimate.of(drawn.estimate(ranker, name))) for name in METRICS},
        "against": against,
    }


def _short(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in estimate.model_dump().items()}


def tuning_trials(ranker: str, folder: Path = TUNING) -> int:
    """How many configurations were tried to choose the ranker's defaults: 0 where no search is on record."""
    try:
        return len(json.loads((folder / f"{ranker}.json").read_text(encoding="utf-8"))["trials"])
    except (OSError, ValueError, KeyError):
        return 0


def tables(content: Mapping[str, Any]) -> list["Table"]:
    """What people read: all campaigns with gains over each of `AGAINST`, then AUC and log loss by campaign type."""
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


def misses(content: Mapping[str, Any]) -> str:
    """Who reached the mark, or by how much the best missed it."""
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
    return f"[{colour}]{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}][/]".replace("[+", r"\[+").replace(
        "[-", r"\[-"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def set_of(settings: Settings, settings_file: Path | None, say: Callable[[str], None]) -> Path:
    """The training set of the last run under `home`; where there is none, a run builds it first.

    Raises:
        RegistryError: the run ended without one.
    """
    home = Home.of(settings)
    if not home.published.training_set.is_dir():
        say(f"{settings.home}: no run has built a training set yet; building it now (recommender run --no-ask)")
        command = [str(Path(sys.executable).with_name("recommender")), "run", "--no-ask"]
        subprocess.run(command + (["--settings", str(settings_file)] if settings_file else []), check=False)
    return published_training_set(home)


def main(arguments: Sequence[str] | None = None) -> int:
    from recommender.report.terminal import wide

    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaigns", description=__doc__.split("\n")[0])
    parser.add_argument("--rankers", default=",".join(RANKERS), help="which, with commas between; without it: all")
    parser.add_argument("--settings", type=Path, help="settings file; without it: recommender.toml where there is one")
    parser.add_argument("--training-set", type=Path, help="the folder of a training set; without it: the last run's")
    parser.add_argument(
        "--output", type=Path, help="without it: reports/bench/campaigns.json, for some rankers campaigns-part.json"
    )
    chosen = parser.parse_args(arguments)
    console = wide()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    file = chosen.settings or (Path("recommender.toml") if Path("recommender.toml").is_file() else None)
    try:
        settings = load_settings(file)
        training_set = chosen.training_set or set_of(settings, file, say)
        rankers = [name.strip() for name in chosen.rankers.split(",") if name.strip()]
        output = chosen.output or report_at(REPORT, set(rankers) == set(RANKERS))
        content = bench(training_set, rankers, settings, readings=output.parent / "readings.jsonl", say=say)
    except RecommenderError as error:
        say(f"{type(error).__name__}: {error}")
        return 2
    write_text(output, json.dumps(content, indent=1))
    for table in tables(content):
        console.print(table)
    say(misses(content))
    say(f"{content['hardware']}, {content['date']}, commit {content['commit'] or 'unknown'}; all figures: {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
