"""`make bench-campaigns`: every ranker on the final test of the campaign task, in one table.

Each ranker is fitted once, on what was known at `test_from`, with its defaults or the settings' hyperparameters. Then
the final test is read with the labels to the end of the log. Intervals draw households with all their pairs; each
ranker is compared with the logistic regression and with LightGBM on the same draws. Nothing here chooses anything, and
every reading of the final test is logged.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.campaigns_report import AGAINST, Row, against_mark, report_of, tables
from benchmarks.measured_on import note_reading, report_path
from recommender.datasets.periods import Periods
from recommender.engine.context import FitContext
from recommender.engine.precision import cpu_has_units
from recommender.errors import BundleError, CorruptFileError, PeriodError, RecommenderError
from recommender.evaluation.judgement import with_gate_campaigns
from recommender.evaluation.pairs import PeriodPairs, final_test_pairs
from recommender.features.training_set import TrainingSet
from recommender.models.campaign import RANKERS, ranker_class
from recommender.registry import bundle
from recommender.settings import Settings, load_settings
from recommender.storage.home import Home
from recommender.storage.manifest import NAME_DIGITS, SHOWN_DIGITS, digest, write_text
from recommender.storage.published import published_training_set
from recommender.training.identity import training_code
from recommender.training.train import boundaries, fit_at

REPORT = Path("reports/bench/campaigns.json")


def bench(
    training_set: Path,
    rankers: Sequence[str],
    settings: Settings,
    *,
    readings: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fit and judge `rankers` and those of `AGAINST`, and return the content of campaigns.json.

    Args:
        training_set: The folder of a training set.
        rankers: Names of campaign rankers.
        settings: Boundaries, seed, device and hyperparameters.
        readings: The log of test readings; None: nothing is logged.
        say: Called with a line for each ranker.

    Raises:
        BundleError: A name is not one of a ranker.
        PeriodError: The final test has no pair.
    """
    for name in rankers:
        if name not in RANKERS:
            raise BundleError(f"unknown ranker {name!r}; there are {', '.join(RANKERS)}")
    data = TrainingSet.open(training_set)
    moments = boundaries(data, settings)
    test = final_test_pairs(data, Periods(moments["gate"], moments["test"], moments["live"]))
    if test is None:
        raise PeriodError(
            f"no pair was decided from {moments['test'].isoformat()} on, so there is no final test; "
            "set an earlier time.test_from"
        )
    rows = []
    for name in dict.fromkeys((*AGAINST, *rankers)):
        row = measured(name, data, test, settings)
        if readings is not None and row.score_N is not None:
            before = f"pairs decided before {moments['test'].date()}"
            note_reading(
                f"campaigns {data.data_hash[:SHOWN_DIGITS]}", name, before, settings.training.seed, readings=readings
            )
        say(f"{name}: {row.failed or f'fitted in {row.fit_seconds:.1f} s'}")
        rows.append(row)
    return report_of(rows, data, test, seed=settings.training.seed)


def measured(name: str, data: TrainingSet, test: PeriodPairs, settings: Settings) -> Row:
    """The ranker's scores of the final test.

    A fit is kept below `home`. One of the same data, hyperparameters and code is not made again.
    """
    hyperparameters = settings.training.rankers.get(name, {})
    training = settings.training
    identity = (
        data.manifest["content_hash"],
        hyperparameters,
        training.seed,
        training.device,
        cpu_has_units(),
        training_code(name),
    )
    place = (
        Home.of(settings).benchmark("campaigns") / f"{name}-{digest(identity, test.starts.isoformat())[:NAME_DIGITS]}"
    )
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
            fitted = fit_at(cls, data, test.starts, cls.Config.parse(hyperparameters, owner=name), context)
            seconds = time.perf_counter() - started
            bundle.save(fitted, place / "bundle", lineage={"fit_seconds": seconds, "data_hash": data.data_hash})
            ranker = bundle.load(place / "bundle")
        score_N = ranker.score(test.examples).redeem_N.astype(np.float64)
    except (RecommenderError, ImportError) as error:
        return Row(name, None, failed=f"{type(error).__name__}: {error}")
    return Row(name, score_N, seconds, hyperparameters)


def set_of(settings: Settings, settings_file: Path | None, say: Callable[[str], None]) -> Path:
    """The training set of the last run. Where there is none, `recommender run` builds it first.

    Raises:
        RegistryError: The run ended without one.
    """
    home = Home.of(settings)
    if not home.published.training_set.is_dir():
        say(f"{settings.home} has no training set yet; building it with: recommender run --no-ask")
        command = [str(Path(sys.executable).with_name("recommender")), "run", "--no-ask"]
        subprocess.run(command + (["--settings", str(settings_file)] if settings_file else []), check=False)
    return published_training_set(home)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the report. The exit code is 2 on an error."""
    from recommender.report.terminal import wide

    parser = argparse.ArgumentParser(prog="make bench-campaigns", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rankers", default=",".join(RANKERS), help="with commas between; without it: all")
    parser.add_argument("--settings", type=Path, help="settings file; without it: recommender.toml where it exists")
    parser.add_argument("--training-set", type=Path, help="the folder of a training set; without it: the last run's")
    parser.add_argument(
        "--output", type=Path, help="without it: reports/bench/campaigns.json, or campaigns-part.json for some rankers"
    )
    chosen = parser.parse_args(arguments)
    console = wide()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    file = chosen.settings or (Path("recommender.toml") if Path("recommender.toml").is_file() else None)
    try:
        settings = with_gate_campaigns(load_settings(file))
        training_set = chosen.training_set or set_of(settings, file, say)
        rankers = [name.strip() for name in chosen.rankers.split(",") if name.strip()]
        output = chosen.output or report_path(REPORT, is_complete=set(rankers) == set(RANKERS))
        content = bench(training_set, rankers, settings, readings=output.parent / "readings.jsonl", say=say)
    except RecommenderError as error:
        say(f"{type(error).__name__}: {error}")
        return 2
    write_text(output, json.dumps(content, indent=1))
    for table in tables(content):
        console.print(table)
    say(against_mark(content))
    say(f"{content['hardware']}, {content['date']}, commit {content['commit'] or 'unknown'}; all figures: {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
