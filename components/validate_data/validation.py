"""Validate tables in one call: schema, rows, expectations, page. Writes the sound rows to a new folder of tables."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.validate_data.figures import figures
from components.validate_data.rows import set_aside, write_clean
from components.validate_data.suites import Outcome, columns_read, judge, load_suite, new_context, parameters
from components.validate_data.verdict import Verdict
from recommender.datasets.contract import open_views
from recommender.datasets.moments import as_of as moment_of
from recommender.datasets.tables import CONTRACT, Tables, open_tables
from recommender.errors import SourceError, ValidationFailed
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import (
    MANIFEST,
    NAME_DIGITS,
    digest,
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
QUARANTINE_EXAMPLES = 50
"""Rows set aside among which an expectation about them finds its examples. Chosen by hand: ten times as
many as are shown (`suites.SHOWN_ROWS`)."""


def validate(tables: Path, output: Path, html: Path, *, as_of: datetime, previous: Path | None = None) -> Verdict:
    """Judge tables, and write their sound rows and a page.

    Args:
        tables: folder of canonical tables.
        output: folder for the sound rows. It is not written if a critical expectation fails.
        html: file of the page. It is always written.
        as_of: the moment of decision.
        previous: folder whose manifest holds the figures of the previous run. None without one.

    Raises:
        CorruptFileError: a file is not the one that its manifest names.
        SourceError: a file cannot be read as Parquet; names it.
        ValidationFailed: critical expectations failed; the message shows them with their first failing rows.
    """
    from components.validate_data.page import validation_page

    source = open_tables(tables)
    before = read_manifest(previous, verify=False).get("figures", {}) if previous else {}
    context = new_context()
    outcomes = _judge_schemas(context, source)
    found: dict[str, dict[str, float | None]] = {}
    bad: dict[str, pa.Table] = {}
    if any(one.critical for one in outcomes):
        write_text(html, validation_page(source, Verdict(outcomes=tuple(outcomes), figures={}), bad, None, as_of))
        raise _failure(outcomes, html)
    with open_views(source) as connection:
        bad = set_aside(connection, source)
        for name in CONTRACT:
            if source.has(name):
                found[name] = figures(connection, source, name, bad[name], as_of)
                batches = {"figures": _one_row(found[name]), "rows": _frame(connection, source, name)}
                values = parameters(load_suite(name), as_of, before.get(name, {}))
                outcomes += judge(context, name, batches, values, _examples(bad[name]))
        verdict = Verdict(outcomes=tuple(outcomes), figures=found)
        write_text(html, validation_page(source, verdict, bad, connection, as_of))
    if verdict.critical:
        raise _failure(outcomes, html)
    with whole_folder(output) as folder:
        kept = write_clean(source, bad, folder)
        facts = {name: fact for name, fact in source.manifest.items() if name not in DERIVED}
        aside = dict(facts.get("quarantined", {}))
        for name, rows in bad.items():
            aside[name] = aside.get(name, 0) + rows.num_rows
        facts |= {"rows": {name: kept[name] for name in facts["rows"]}, "quarantined": aside, "figures": found}
        write_manifest(folder, **facts)
    return Verdict(outcomes=tuple(outcomes), figures=found, data_hash=Tables(output).data_hash)


def validate_step(tables: Path, output: Path, *, html: Path, settings: Settings) -> Verdict:
    """`validate` as a pipeline's step: `as_of` from the settings, compared with the source's last good run.

    Raises:
        CorruptFileError, SourceError: as `validate`.
        ValidationFailed: as `validate`; the page is published, because no later step of the run does.
    """
    home = Home.of(settings)
    memory = home.validated(digest(settings.source.model_dump(mode="json"))[:NAME_DIGITS])
    previous = memory if (memory / MANIFEST).is_file() else None
    source = open_tables(tables)
    try:
        verdict = validate(tables, output, html, as_of=moment_of(settings.time, source), previous=previous)
    except ValidationFailed:
        # No later step runs, so nothing else would publish the page that shows why.
        publish(home, run="", data_hash=source.data_hash, validation_page=html)
        raise
    with whole_folder(memory) as folder:
        write_manifest(folder, figures=verdict.figures, data_hash=verdict.data_hash)
    return verdict


def _failure(outcomes: list[Outcome], html: Path) -> ValidationFailed:
    critical = [one for one in outcomes if one.critical]
    lines = "\n".join(f"  {one.describe()}" for one in critical[:SHOWN])
    return ValidationFailed(f"{len(critical)} critical expectation(s) failed; the page is {html}\n{lines}")


def _judge_schemas(context: Any, source: Tables) -> list[Outcome]:
    import pandas as pd

    outcomes: list[Outcome] = []
    for name, contract in CONTRACT.items():
        paths = sorted((source.folder / name).rglob("*.parquet"))
        if not paths:
            if contract.required:
                columns = pd.DataFrame(columns=[])
                outcomes += judge(context, name, {"columns": columns}, _unbounded(name), [])
            continue
        found: dict[str, str] = {}
        for path in paths:
            try:
                schema = pq.read_schema(path)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{path}: cannot be read as Parquet ({error})") from None
            for field in schema:
                wanted = contract.columns.get(field.name)
                if field.name not in found or (wanted and field.type != wanted.dtype):
                    found[field.name] = str(field.type)
        known = [c for c in found if c in contract.columns and found[c] != "null"]
        wanted_types = [str(contract.columns[c].dtype) for c in known]
        dtypes = pd.DataFrame({"column": known, "found": [found[c] for c in known], "wanted": wanted_types})
        batches = {"columns": pd.DataFrame(columns=list(found)), "dtypes": dtypes}
        outcomes += judge(context, name, batches, _unbounded(name), [])
    return outcomes


def _unbounded(name: str) -> dict[str, None]:
    return dict.fromkeys(load_suite(name)["meta"]["parameters"])


def _one_row(found: Mapping[str, float | None]) -> Any:
    import pandas as pd

    return pd.DataFrame({name: [value] for name, value in found.items() if value is not None})


def _frame(connection: Any, source: Tables, name: str) -> Any:
    """The cleaned rows in the columns that the suite reads, with repeating texts as categories to save memory."""
    asked = columns_read(load_suite(name)) | set(CONTRACT[name].key)
    columns = [c for c in CONTRACT[name].columns if c in asked and source.has(name, c)]
    table = connection.sql(f"SELECT {', '.join(columns)} FROM {name}").to_arrow_table()
    unique = CONTRACT[name].key[0] if len(CONTRACT[name].key) == 1 else ""
    for place, column in enumerate(columns):
        if pa.types.is_string(table[column].type) and column != unique:
            table = table.set_column(place, column, table[column].dictionary_encode().unify_dictionaries())
    return table.to_pandas()


def _examples(rows: pa.Table) -> list[dict[str, Any]]:
    wanted = [c for c in rows.column_names if c != "_column"]
    return [
        {k: v for k, v in row.items() if v is not None}
        for row in rows.select(wanted).slice(0, QUARANTINE_EXAMPLES).to_pylist()
    ]
