"""The suites of expectations (`expectations/*.json`), one for each table, and their run through Great Expectations.

Great Expectations sees figures only, never the rows of a table: three frames with one row for each column, for each
critical figure, and for each figure that only warns. An expectation's `meta.on` names what it looks at:

    columns   which columns a table has
    dtypes    the dtype of each column: found, wanted
    figures   a figure of the table (`figures.py`), which must lie between `min_value` and `max_value`

The checks of `recommender.datasets.checks` and `recommender.datasets.facts` are figures with bounds too.

The bounds of the suites are chosen by hand (5 % of rows set aside, 1 % of orphans, a fifth fewer or three times as many
rows, half to twice a share). They pass a shop's ordinary days and catch a broken export. `meta.sentence` is the
expectation in words. The suite's `meta.parameters` derives bounds from a figure of the previous run.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from components.validate_data.outcome import Outcome
from recommender.datasets.checks import Check
from recommender.datasets.tables import CONTRACT

LONGEST_EXCEPTION = 300
"""Characters of an exception inside Great Expectations that are shown. The rest is traceback. By hand."""


def load_suite(table: str) -> dict[str, Any]:
    """The JSON of one table's suite."""
    text = files("components.validate_data").joinpath(f"expectations/{table}.json").read_text(encoding="utf-8")
    suite: dict[str, Any] = json.loads(text)
    return suite


def parameters(suite: Mapping[str, Any], previous: Mapping[str, float | None]) -> dict[str, Any]:
    """Values of the suite's `$PARAMETER`s for this run. None for a bound that needs an earlier run.

    Args:
        suite: the JSON of the suite.
        previous: the table's figures in the previous run. Empty without one.
    """
    values: dict[str, Any] = {}
    for name, rule in suite["meta"]["parameters"].items():
        before = previous.get(rule["previous"])
        values[name] = rule["otherwise"] if before is None else before * rule["times"]
    return values


def new_context() -> Any:
    """A Great Expectations context in memory, silent and without telemetry."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    # It announces its temporary folder, by a logger that sets its own level.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def judge_schema(context: Any, found: Mapping[str, Mapping[str, str]]) -> list[Outcome]:
    """Judge columns and dtypes of all tables.

    Args:
        context: from `new_context`.
        found: table -> column -> dtype, as the files have them. A required table that is absent has no column.
    """
    import pandas as pd

    rows: list[dict[str, str]] = []
    for table, types in found.items():
        contract = CONTRACT[table].columns
        for one in load_suite(table)["expectations"]:
            on = one["meta"]["on"]
            if on == "columns":
                for column in one["kwargs"]["column_set"]:
                    there = f"no column {column}" if column not in types else column
                    rows.append({"name": f"{table}.{on}", "column": column, "found": there, "wanted": column})
            elif on == "dtypes":
                for column, dtype in types.items():
                    if column in contract and dtype != "null":
                        wanted = str(contract[column].dtype)
                        rows.append({"name": f"{table}.{on}", "column": column, "found": dtype, "wanted": wanted})
    meta = {"on": "schema", "sentence": ""}
    equal = {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "found", "column_B": "wanted"}}
    chosen = [{**equal, "severity": "critical", "meta": meta}]
    index = ["name", "column"]
    wrong = _failing(_run(context, "schema", pd.DataFrame(rows), chosen, index=index), index)
    return [
        _schema_outcome(table, one, types, [row for row in rows if (row["name"], row["column"]) in wrong])
        for table, types in found.items()
        for one in load_suite(table)["expectations"]
        if one["meta"]["on"] in ("columns", "dtypes")
    ]


def judge_figures(
    context: Any,
    found: Mapping[str, Mapping[str, float | None]],
    before: Mapping[str, Mapping[str, float | None]],
    checks: Sequence[Check],
) -> list[Outcome]:
    """Judge the figures of all tables and the checks: each value must lie between its bounds.

    A figure that this run lacks and the last good run had is a failure, not "not applicable".

    Args:
        context: from `new_context`.
        found: table -> figure -> value. None where there is nothing to count.
        before: the same of the last good run. Empty without one.
        checks: figures with bounds of their own.
    """
    outcomes: list[Outcome] = []
    bounded: list[Check] = []
    for table, own in found.items():
        suite = load_suite(table)
        values = parameters(suite, before.get(table, {}))
        for one in suite["expectations"]:
            if one["meta"]["on"] != "figures":
                continue
            figure = str(one["kwargs"]["column"])
            value, earlier = own.get(figure), before.get(table, {}).get(figure)
            check = _bounded(table, one, values, value)
            if value is None and earlier is not None:
                observed = f"nothing to count; it was {earlier:,.6g} in the last good run"
                outcomes.append(_outcome(check, "failed", observed))
            elif value is None or (check.least is None and check.most is None):
                why = "the table has no such figure" if value is None else "there is no earlier run to compare with"
                outcomes.append(_outcome(check, "not applicable", why))
            else:
                bounded.append(check)
    every = [*bounded, *checks]
    failed = _outside(context, [c for c in every if c.severity == "critical"], "critical")
    failed |= _outside(context, [c for c in every if c.severity == "warning"], "warning")
    for check in every:
        outside = (check.severity, check.name, check.sentence) in failed
        outcomes.append(_outcome(check, "failed" if outside else "passed", f"{check.value:,.6g}"))
    return outcomes


def _bounded(table: str, one: Mapping[str, Any], values: Mapping[str, Any], value: float | None) -> Check:
    """An expectation of a suite with this run's bounds."""

    def bound(name: str) -> float | None:
        given = one["kwargs"].get(name)
        found: float | None = values[given["$PARAMETER"]] if isinstance(given, dict) else given
        return found

    figure = str(one["kwargs"]["column"])
    return Check(
        name=f"{table}.{figure}",
        table=table,
        column=str(one["meta"].get("of") or figure),
        severity=one["severity"],
        value=float("nan") if value is None else float(value),
        least=bound("min_value"),
        most=bound("max_value"),
        sentence=one["meta"]["sentence"],
    )


def _outside(context: Any, checks: Sequence[Check], severity: str) -> set[tuple[str, str, str]]:
    """Severity, name and sentence of the checks whose value is missing or outside its bounds."""
    import pandas as pd

    if not checks:
        return set()
    infinite = float("inf")
    frame = pd.DataFrame(
        {
            "name": [check.name for check in checks],
            "sentence": [check.sentence for check in checks],
            "value": [None if math.isnan(check.value) else check.value for check in checks],
            "least": [-infinite if check.least is None else check.least for check in checks],
            "most": [infinite if check.most is None else check.most for check in checks],
        }
    )
    greater = "expect_column_pair_values_a_to_be_greater_than_b"
    ordered = [{"column_A": "value", "column_B": "least"}, {"column_A": "most", "column_B": "value"}]
    chosen = [{"type": greater, "kwargs": {**pair, "or_equal": True}} for pair in ordered]
    chosen.append({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "value"}})
    chosen = [{**one, "severity": severity, "meta": {"on": "figures", "sentence": ""}} for one in chosen]
    index = ["name", "sentence"]
    failing = _failing(_run(context, severity, frame, chosen, index=index), index)
    return {(severity, name, sentence) for name, sentence in failing}


def _failing(results: Sequence[Mapping[str, Any]], index: Sequence[str]) -> set[tuple[str, ...]]:
    """The keys of the rows that failed any of the expectations.

    Raises:
        RuntimeError: Great Expectations could not judge one of them.
    """
    found: set[tuple[str, ...]] = set()
    for one in results:
        rows = one["result"].get("unexpected_index_list")
        if not one["success"] and not rows:
            raise RuntimeError(f"Great Expectations could not judge: {one['exception_info']}"[:LONGEST_EXCEPTION])
        found |= {tuple(str(row[name]) for name in index) for row in rows or []}
    return found


def _run(
    context: Any, name: str, frame: Any, chosen: Sequence[Mapping[str, Any]], *, index: Sequence[str] = ()
) -> list[dict[str, Any]]:
    import great_expectations as gx

    if not chosen:
        return []
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    built = gx.ExpectationSuite(name=name, expectations=[dict(one) for one in chosen])
    form: dict[str, Any] = {"result_format": "COMPLETE"}
    options = {**form, "unexpected_index_column_names": list(index)} if index else form
    return [one.to_json_dict() for one in batch.validate(built, result_format=options).results]


def _schema_outcome(
    table: str, one: Mapping[str, Any], types: Mapping[str, str], wrong: Sequence[Mapping[str, str]]
) -> Outcome:
    on = one["meta"]["on"]
    rows = [{k: v for k, v in row.items() if k != "name"} for row in wrong if row["name"] == f"{table}.{on}"]
    observed = ", ".join(types) or "no column"
    if rows and on == "columns":
        observed = f"{', '.join(row['found'] for row in rows)}; there are {', '.join(types)}"
    elif on == "dtypes":
        observed = f"{len(rows)} of {len(types)} columns"
    return Outcome(
        table=table,
        column="",
        check=f"{table}.{on}",
        sentence=one["meta"]["sentence"],
        severity=one["severity"],
        status="failed" if rows else "passed",
        wanted=", ".join(one["kwargs"].get("column_set", ())),
        observed=observed,
        rows=tuple(rows) if on == "dtypes" else (),
    )


def _outcome(check: Check, status: str, observed: str) -> Outcome:
    words = {"at least": check.least, "at most": check.most}
    return Outcome(
        table=check.table,
        column=check.column,
        check=check.name,
        sentence=check.sentence,
        severity=check.severity,
        status=status,
        wanted=" and ".join(f"{word} {bound:.4g}" for word, bound in words.items() if bound is not None),
        observed=observed,
        value=None if math.isnan(check.value) else check.value,
        cause=check.cause if status == "failed" else "",
    )
