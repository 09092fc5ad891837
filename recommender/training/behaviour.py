"""Forecasts of behaviour for every user, judged by rolling origin.

Cutoffs lie one longest window apart. At each of the last ones every forecast learns from the users at earlier cutoffs,
whose windows had ended by then, and is judged by what the users did afterwards. Then it learns from all cutoffs and
forecasts everyone at `as_of`.

    predictions.parquet   user_id, outcome, days, probability
    figures.json          what was judged, and how good it is
    manifest.json         cutoffs, population, forecast, data, and the SHA-256 of both files
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from recommender.datasets.moments import moment
from recommender.datasets.tables import Tables
from recommender.errors import LabelError, SettingsError
from recommender.evaluation.behaviour import JudgedCutoff, LeftOut, Task, judge
from recommender.evaluation.intervals import Bootstrap
from recommender.matching.users_at import Learnt, UsersAt
from recommender.models.behaviour import BASELINES, available, forecast_of
from recommender.settings import Settings
from recommender.storage.manifest import whole_folder, write_manifest, write_text
from recommender.storage.scratch import scratch_folder

FORMAT = 1
"""Version of the folder's layout, in its manifest."""
POPULATION = "users with an event before the cutoff"
MIN_OF_EACH = 10
"""Users who did it, and who did not, that a forecast needs to learn from. Chosen by hand: fewer teach noise."""
LONGEST_DAYS = 365
SAMPLES = 400
"""Resamples of an interval. Fewer than for the gate, which decides: these are only shown. Chosen by hand."""


class Behaviour(BaseModel):
    """What was judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    data_hash: str
    as_of: datetime
    """What is known ends here, and the written forecasts begin."""
    population: str
    meanings: dict[str, str]
    """Outcome -> what counts."""
    cutoffs: list[datetime]
    num_judged: int
    """The last so many cutoffs judge. All earlier ones are only learned from."""
    forecast: str
    """The one that is written."""
    confidence: float
    tasks: list[Task]
    left_out: list[LeftOut]


def forecast_behaviour(
    tables: Tables,
    settings: Settings,
    output: Path,
    *,
    days: Sequence[int] = (7, 28),
    origins: int = 4,
    forecast: str = "logistic",
    progress: Callable[[str, int, int], None] | None = None,
) -> Behaviour:
    """Judge every forecast at the last cutoffs, and write the chosen one's for everyone at `as_of`.

    Args:
        tables: the canonical tables.
        settings: `as_of`, seed and threads.
        output: folder to write.
        days: lengths of the windows.
        origins: number of cutoffs that judge, where the log is long enough.
        forecast: name of the forecast that is written.
        progress: called before each step with its name, its number from 0 and the number of steps.

    Raises:
        SettingsError: a number of days out of range.
        BundleError: there is no such forecast here.
        ContractError: a table that features need is missing, or there is no purchase.
        PeriodError: the log is too short for the longest window.
        LabelError: no outcome can be learned.
    """
    from recommender.features.cutoffs import OUTCOMES, cutoffs, rows_at
    from recommender.features.source import open_source

    lengths = require_choices(days, forecast)
    as_of = _known_until(tables, settings)
    with scratch_folder("behaviour") as spill:
        source = open_source(tables, as_of, threads=settings.training.threads, spill=Path(spill))
        moments = cutoffs(source, step_days=lengths[-1])
        at = []
        for number, cutoff in enumerate((*moments, as_of)):
            if progress is not None:
                progress(f"users at {cutoff:%Y-%m-%d}", number, len(moments) + 1)
            at.append(rows_at(source, cutoff, lengths))
        only_purchases = source.events.kind.nunique().to_pyarrow().as_py() == 1
    past, now = at[:-1], at[-1]
    num_judged = min(origins, len(past) - 1)
    tasks, left_out, predicted = [], [], {}
    wanted = [(outcome, length) for outcome in OUTCOMES for length in lengths]
    for number, (outcome, length) in enumerate(wanted):
        if progress is not None:
            progress(f"{outcome}, {length} days", number, len(wanted))
        try:
            if outcome == "visit" and only_purchases:
                raise LabelError("every event of this log is a purchase, so a visit is the same as `buy`.")
            tasks.append(_judged(past, num_judged, outcome, length, settings.training.seed))
        except LabelError as error:
            left_out.append(LeftOut(outcome=outcome, days=length, reason=str(error)))
            continue
        learnt = Learnt.of(past, outcome, length)
        predicted[outcome, length] = forecast_of(forecast)(learnt, now, outcome, settings.training.seed)
    if not tasks:
        raise LabelError("no outcome can be forecast. " + " ".join(f"{one.outcome}: {one.reason}" for one in left_out))
    found = Behaviour(
        data_hash=tables.data_hash,
        as_of=as_of,
        population=POPULATION,
        meanings=OUTCOMES,
        cutoffs=moments,
        num_judged=num_judged,
        forecast=forecast,
        confidence=Bootstrap().confidence,
        tasks=tasks,
        left_out=left_out,
    )
    _write(found, now, predicted, output)
    return found


def require_choices(days: Sequence[int], forecast: str) -> list[int]:
    """Check what is to be forecast, before anything is read. Returns the lengths, each once and the shortest first.

    Raises:
        SettingsError: a number of days out of range.
        BundleError: there is no such forecast here.
    """
    lengths = sorted(set(days))
    if not lengths or not 1 <= lengths[0] <= lengths[-1] <= LONGEST_DAYS:
        raise SettingsError(f"--days {' '.join(map(str, days))}: name whole days from 1 to {LONGEST_DAYS}")
    forecast_of(forecast)
    return lengths


def _known_until(tables: Tables, settings: Settings) -> datetime:
    """The setting, but never after the log's last event: from there on nothing is known, which is no "did not"."""
    end = tables.log_end.astimezone(UTC) + timedelta(microseconds=1)
    chosen = settings.time.as_of
    return end if chosen is None else min(end, moment(chosen, tables.time_zone))


def _judged(past: Sequence[UsersAt], num_judged: int, outcome: str, length: int, seed: int) -> Task:
    """Judge every forecast at the last cutoffs.

    Raises:
        LabelError: before one of them too few users did it, or too few did not.
    """
    parts = []
    for place in range(len(past) - num_judged, len(past)):
        learnt, at = Learnt.of(past[:place], outcome, length), past[place]
        did = int(learnt.happened_N.sum())
        if min(did, len(learnt.happened_N) - did) < MIN_OF_EACH:
            raise LabelError(
                f"{did} of {len(learnt.happened_N):,} users at the cutoffs before {at.cutoff:%Y-%m-%d} did it within "
                f"{length} days; at least {MIN_OF_EACH} must have done it, and as many not. Ask for fewer origins."
            )
        forecasts = {name: forecast_of(name)(learnt, at, outcome, seed) for name in available()}
        happened_N = at.outcomes[outcome, length]
        if happened_N.min() == happened_N.max():
            raise LabelError(f"all users did the same within {length} days from {at.cutoff:%Y-%m-%d} on.")
        parts.append(JudgedCutoff(at.cutoff, at.user_ids, len(learnt.happened_N), happened_N, forecasts))
    return judge(outcome, length, parts, BASELINES, Bootstrap(samples=SAMPLES, seed=seed))


def _write(found: Behaviour, now: UsersAt, predicted: Mapping[tuple[str, int], np.ndarray], output: Path) -> None:
    users = pa.array(now.user_ids, pa.string())
    parts = [
        pa.table(
            {
                "user_id": users,
                "outcome": pa.array([outcome] * len(users), pa.string()),
                "days": pa.array([length] * len(users), pa.int32()),
                "probability": pa.array(p_N, pa.float64()),
            }
        )
        for (outcome, length), p_N in predicted.items()
    ]
    with whole_folder(output) as folder:
        pq.write_table(pa.concat_tables(parts), folder / "predictions.parquet", write_page_checksum=True)
        write_text(folder / "figures.json", found.model_dump_json(indent=1))
        write_manifest(
            folder,
            kind="behaviour",
            format=FORMAT,
            data_hash=found.data_hash,
            as_of=found.as_of.isoformat(),
            cutoffs=[one.isoformat() for one in found.cutoffs],
            forecast=found.forecast,
            population=found.population,
        )
