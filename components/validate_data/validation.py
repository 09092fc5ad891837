"""Validate tables in one call: schema, rows, figures, checks, page. Writes the sound rows to a new folder of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.validate_data.figures import failing_rows, figures
from components.validate_data.outcome import Outcome
from components.validate_data.quarantine import keep, quarantined
from components.validate_data.record import Record
from components.validate_data.remedies import cause_of_figure, remedy_for_rows
from components.validate_data.rows import Aside, set_aside, write_clean
from components.validate_data.suites import judge_figures, judge_schema, new_context
from components.validate_data.verdict import Verdict
from recommender.datasets.checks import GROUP, SCHEMA_HOLDS, Change, Check, Run, Shape, all_checks, changes, in_a_table
from recommender.datasets.checks.check import check_at
from recommender.datasets.contract import open_views
from recommender.datasets.facts import Known, facts
from recommender.datasets.moments import as_of as moment_of
from recommender.datasets.statistics import Statistics, measure, read_statistics, write_statistics
from recommender.datasets.tables import CONTRACT, Tables, open_tables
from recommender.days import DayStore, promote
from recommender.errors import SourceError, ValidationFailed
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings, Settings
from recommender.storage.commands import command
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home, source_name
from recommender.storage.in_use import in_use
from recommender.storage.manifest import (
    MANIFEST,
    read_manifest,
    whole_folder,
    write_manifest,
    write_text,
)
from recommender.storage.published import publish

DERIVED = ("content_hash", "files")
"""Facts of a manifest that are computed anew for the cleaned tables."""
SHOWN = 8
"""Failed expectations that the error message shows. The page shows all. Chosen by hand."""

Figures = dict[str, dict[str, float | None]]
"""Table -> figure -> value."""
Review = Callable[[Sequence[Outcome]], list[Outcome]]
"""Marks the failures that a person accepted."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """What is known of the source's good runs."""

    figures: Figures
    statistics: Statistics | None = None
    runs: tuple[Run, ...] = ()
    shape: Shape | None = None

    @classmethod
    def read(cls, folder: Path | None, runs: tuple[Run, ...] = ()) -> "Earlier":
        """Read the folder of the last good run. Nothing is known where there is none."""
        if folder is None or not (folder / MANIFEST).is_file():
            return cls({})
        known, statistics = read_manifest(folder, verify=False), read_statistics(folder)
        shape = Shape(**known["shape"]) if "shape" in known else None
        if shape is None and statistics is not None:  # written by a release that kept no types
            shape = Shape(dict.fromkeys(statistics.columns, ""))
        return cls(known.get("figures", {}), statistics, runs, shape)

    def after(self, accepted: Sequence[Change], lacking: Mapping[str, Mapping[str, float | None]]) -> "Earlier":
        """What this run is compared with after changes that a person accepted.

        Args:
            accepted: the changes. After one of currency or zone nothing is: numbers or days are other ones.
            lacking: figures of this run. Those that it lacks are those of the columns that are gone.
        """
        if any(change.is_fact for change in accepted):
            return replace(self, figures={}, statistics=None)
        figures = {
            table: {name: value for name, value in own.items() if lacking.get(table, {}).get(name) is not None}
            for table, own in self.figures.items()
        }
        return replace(self, figures=figures if accepted else self.figures)


def validate(
    tables: Path,
    output: Path,
    html: Path,
    *,
    as_of: datetime,
    previous: Path | None = None,
    outdated: str = "",
    runs: tuple[Run, ...] = (),
    review: Review = list,
    resources: ResourceSettings = DEFAULT_RESOURCES,
    accept: str = "recommender validate --accept",
) -> Verdict:
    """Judge tables, and write their sound rows and a page.

    Args:
        tables: folder of canonical tables.
        output: folder for the sound rows. It is not written if a critical expectation fails.
        html: file of the page. It is always written.
        as_of: the moment of decision. Later rows are kept as labels of a back-test, and no check looks at them.
        previous: folder with figures and statistics of the last good run (`write_memory`). None without one.
        outdated: what is wrong with those figures, so that they are not `previous`. Told as a warning.
        runs: the good runs so far, the latest last.
        review: marks the failures that a person accepted.
        resources: threads, the limit of memory, and where temporary files lie.
        accept: the command that accepts a failure, up to its name, for the message.

    Raises:
        CorruptFileError: a file is not the one that its manifest names.
        SourceError: a file cannot be read as Parquet; names it.
        ValidationFailed: critical expectations failed; holds the verdict, and the message shows the failures with
            their first failing rows.
    """
    from components.validate_data.page import validation_page

    source, earlier = open_tables(tables), Earlier.read(previous, runs)
    context, dtypes = new_context(), _schemas(source)
    outcomes = review(judge_schema(context, dtypes))
    if any(one.critical for one in outcomes):
        verdict = Verdict(outcomes=tuple(outcomes), figures={})
        write_text(html, validation_page(source, verdict, {}, None, as_of))
        raise _failure(verdict, html, accept)
    shape = Shape.of(source, dtypes)
    changed = changes(shape, earlier.shape)
    # Judged first: what a person accepted decides with what the rest is compared.
    seen = review(judge_figures(new_context(), {}, {}, [change.check for change in changed])) if changed else []
    with open_views(source, resources) as connection:
        aside = set_aside(connection, source)
        found = {name: figures(connection, source, name, aside[name], as_of) for name in CONTRACT if source.has(name)}
        accepted = {one.check for one in seen if one.status == "accepted"}
        earlier = earlier.after([change for change in changed if change.check.name in accepted], found)
        statistics = measure(connection, source, as_of)
        checks = [
            *facts(connection, Known.of(source), as_of),
            *([] if changed or earlier.shape is None else [SCHEMA_HOLDS]),
            *([_not_compared(outdated)] if outdated else []),
            *all_checks(statistics, earlier.statistics, earlier.runs, reaches=source.log_end.date()),
        ]
        judged = judge_figures(context, found, earlier.figures, checks)
        outcomes += seen + review([_with_rows(connection, source, aside, one) for one in judged])
        verdict = Verdict(
            outcomes=tuple(outcomes), figures=found, shape=shape, changes=tuple(changed), statistics=statistics
        )
        write_text(html, validation_page(source, verdict, aside, connection, as_of))
        if verdict.critical:
            raise _failure(verdict, html, accept)
        with whole_folder(output) as folder:
            kept = write_clean(connection, source, aside, folder)
            _write_facts(source, aside, kept, found, folder, connection)
    return replace(verdict, data_hash=Tables(output).data_hash)


def validate_step(tables: Path, output: Path, *, html: Path, settings: Settings) -> Verdict:
    """`validate` as a pipeline's step: `as_of` from the settings, compared with the source's last good run.

    The verdict is kept in the source's record, and a good run's statistics beside it. Valid tables put the daily
    partitions into force that ingestion proposed.

    Raises:
        CorruptFileError, SourceError: as `validate` and `promote`.
        ValidationFailed: as `validate`; the page is published, because no later step of the run does.
    """
    with in_use(Home.of(settings)):  # so that no user comes into the record who is forgotten meanwhile
        return _validate_step(tables, output, html, settings)


def _validate_step(tables: Path, output: Path, html: Path, settings: Settings) -> Verdict:
    home = Home.of(settings)
    memory, record = home.validated(source_name(settings)), record_of(settings)
    source = open_tables(tables)
    outdated = counts_forgotten(memory, source)
    try:
        verdict = validate(
            tables,
            output,
            html,
            as_of=moment_of(settings.time, source),
            previous=None if outdated else memory,
            outdated=outdated,
            runs=record.runs(),
            review=record.applied,
            resources=settings.resources,
            accept=accept_command(settings),
        )
    except ValidationFailed as failed:
        if isinstance(failed.verdict, Verdict):
            record.keep(failed.verdict, source.data_hash)
        keep(quarantined(tables), record.folder)
        # No later step runs, so nothing else would publish the page that shows why.
        publish(home, run="", data_hash=source.data_hash, validation_page=html)
        raise
    record.keep(verdict, verdict.data_hash)
    keep(quarantined(output), record.folder)
    write_memory(verdict, memory)
    if verdict.statistics is not None:
        last = verdict.statistics
        record.add_run(Run(verdict.data_hash, last.last_day.isoformat(), last.last_hour))
    # Last, and safe to repeat: where the step is killed before, it runs again.
    promote(
        source,
        DayStore.of(settings),
        log_end=Tables(output).log_end,
        forgotten=Forgotten.of(home),
        resources=settings.resources,
    )
    return verdict


def counts_forgotten(memory: Path, source: Tables) -> str:
    """What is wrong with the last good run's figures. Empty: nothing.

    They still count shoppers whom the source has and who were forgotten since. `recommender forget` measures them
    again, but not while a run is on. Compared with them, the shoppers' rows would be lost files.
    """
    newest, written = source.manifest.get("forgotten", {}).get("newest"), memory / MANIFEST
    if newest is None or not written.is_file():
        return ""
    if datetime.fromisoformat(newest) < datetime.fromtimestamp(written.stat().st_mtime, UTC):
        return ""
    return "compared with no earlier run, whose figures count shoppers who were forgotten since: forget them again"


def _not_compared(why: str) -> Check:
    sentence = "the last good run's figures can be compared with"
    return check_at("events.user_id.forgotten", severity="warning", value=1.0, most=0.0, sentence=sentence, cause=why)


def accept_command(settings: Settings) -> str:
    """The command by which a person accepts a failure of these settings' source, up to the check's name."""
    return command(settings, "validate") + " --accept"


def record_of(settings: Settings) -> Record:
    """The record of the validations of these settings' source."""
    return Record(Home.of(settings).validation_record(source_name(settings)))


def write_memory(verdict: Verdict, folder: Path) -> None:
    """Write the figures and statistics of a good run, which the next run is compared with."""
    with whole_folder(folder) as made:
        if verdict.statistics is not None and verdict.statistics.num_days:
            write_statistics(verdict.statistics, made)
        shape = {} if verdict.shape is None else {"shape": asdict(verdict.shape)}
        write_manifest(made, figures=verdict.figures, data_hash=verdict.data_hash, **shape)


def _with_rows(connection: duckdb.DuckDBPyConnection, source: Tables, aside: dict[str, Aside], one: Outcome) -> Outcome:
    """A failed outcome with its first failing rows."""
    if one.status != "failed" or one.cause:
        return one
    figure = one.check.partition(".")[2]
    rows = failing_rows(connection, source, one.table, figure)
    if "quarantined" in figure or "orphan" in figure:
        part = figure.removeprefix("orphan_share_") if "orphan" in figure else ""
        rows = [
            {k: v for k, v in row.items() if v is not None}
            for row in aside[one.table].examples
            if part in str(row["_reason"])
        ]
    kinds = ", ".join(f"{reason} ({count:,})" for reason, count in list(aside[one.table].reasons.items())[:3])
    hint = f". They are {aside[one.table].hint}" if aside[one.table].hint else ""
    cause = one.cause or cause_of_figure(figure, one.value)
    if "quarantined" in figure:
        cause = f"rows set aside: {kinds}{hint}{remedy_for_rows(aside[one.table].reasons)}"
    return replace(one, rows=tuple(rows[:5]), cause=cause)


def _write_facts(
    source: Tables,
    aside: dict[str, Aside],
    kept: dict[str, int],
    found: dict[str, dict[str, float | None]],
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    facts_of = {name: fact for name, fact in source.manifest.items() if name not in DERIVED}
    quarantined = dict(facts_of.get("quarantined", {}))
    for name, one in aside.items():
        quarantined[name] = quarantined.get(name, 0) + one.rows
    facts_of |= {"rows": {name: kept[name] for name in facts_of["rows"]}, "quarantined": quarantined, "figures": found}
    later = {name: int(own.get("not_yet_known") or 0) for name, own in found.items()}
    facts_of["not_yet_known"] = {name: rows for name, rows in later.items() if rows}
    if "events" in aside and aside["events"].rows:
        (last,) = connection.sql("SELECT max(event_time) FROM events").fetchone() or (None,)
        if last is not None:
            facts_of["log_end"] = last.astimezone(UTC).isoformat()
    write_manifest(folder, **facts_of)


def _failure(verdict: Verdict, html: Path, accept: str) -> ValidationFailed:
    lines = "\n".join(f"  {one.describe()}" for one in verdict.critical[:SHOWN])
    more = len(verdict.critical) - SHOWN
    lines += f"\n  and {more} more" if more > 0 else ""
    if verdict.changes:
        lines += f"\nChanged since the last good run:\n{in_a_table(verdict.changes)}"
    # What has no value is a table without a required column, which cannot be accepted.
    names = [
        GROUP if one.check.startswith(f"{GROUP}.") else one.check for one in verdict.critical if one.value is not None
    ]
    for name in list(dict.fromkeys(names))[:SHOWN]:
        lines += f'\nA true change is accepted, and remembered, with: {accept} {name} --reason "…"'
    return ValidationFailed(
        f"{len(verdict.critical)} critical expectation(s) failed; the page is {html}\n{lines}", verdict=verdict
    )


def _schemas(source: Tables) -> dict[str, dict[str, str]]:
    """Table -> column -> dtype, as the files have them. Of several dtypes the one that breaks the contract counts."""
    found: dict[str, dict[str, str]] = {}
    for name, contract in CONTRACT.items():
        paths = sorted((source.folder / name).rglob("*.parquet"))
        types: dict[str, str] = {}
        for path in paths:
            try:
                schema = pq.read_schema(path)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{path}: cannot be read as Parquet ({error})") from None
            for field in schema:
                wanted = contract.columns.get(field.name)
                if field.name not in types or (wanted and field.type != wanted.dtype):
                    types[field.name] = str(field.type)
        found[name] = types
    return found
