"""The suites of expectations (`expectations/*.json`), one for each table, and their run through Great Expectations.

An expectation's `meta.on` names the batch that it looks at:

    columns   an empty frame with the file's columns
    dtypes    one row for each column: found, wanted
    figures   one row with the table's figures (`figures.py`)
    rows      the cleaned table, with only the columns that the suite reads

The bounds are chosen by hand (5 % of rows set aside, 1 % of orphans, a fifth fewer or three times as many rows, half to
twice a share). They pass a shop's ordinary days and catch a broken export. `meta.sentence` is the expectation in words.
The suite's `meta.parameters` derives bounds that depend on the run, from `as_of` or from a figure of the previous run.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from recommender.datasets.tables import CONTRACT

SHOWN_ROWS = 5
"""Failing rows of an expectation that are shown: enough to see what is wrong. Chosen by hand."""
LONGEST_EXCEPTION = 300
"""Characters of an exception inside Great Expectations that are shown. The rest is traceback. By hand."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one expectation."""

    table: str
    column: str
    expectation: str
    sentence: str
    severity: str
    status: str
    """passed, failed, or `not applicable`: the table lacks the column, or there is no earlier run to compare with."""
    wanted: str
    observed: str
    rows: tuple[dict[str, Any], ...] = ()
    """The first failing rows: key and value."""

    @property
    def critical(self) -> bool:
        """Whether it stops the run."""
        return self.status == "failed" and self.severity == "critical"

    def describe(self) -> str:
        """Place, expectation, observation and first failing rows, in one line."""
        first = "; ".join(", ".join(f"{k} {v}" for k, v in row.items()) for row in self.rows)
        place = f"{self.table}.{self.column}" if self.column else self.table
        shown = f"; first rows: {first}" if first else ""
        return f"{place}: expected that {self.sentence} ({self.expectation}); observed {self.observed}{shown}"


def load_suite(table: str) -> dict[str, Any]:
    """The JSON of one table's suite."""
    text = files("components.validate_data").joinpath(f"expectations/{table}.json").read_text(encoding="utf-8")
    suite: dict[str, Any] = json.loads(text)
    return suite


def parameters(suite: Mapping[str, Any], as_of: datetime, previous: Mapping[str, float | None]) -> dict[str, Any]:
    """Values of the suite's `$PARAMETER`s for this run. None for a bound that needs an earlier run.

    Args:
        suite: the JSON of the suite.
        as_of: the moment of decision.
        previous: the table's figures in the previous run. Empty without one.
    """
    values: dict[str, Any] = {}
    for name, rule in suite["meta"]["parameters"].items():
        if "as_of_days" in rule:
            values[name] = as_of + timedelta(days=rule["as_of_days"])
        else:
            before = previous.get(rule["previous"])
            values[name] = rule["otherwise"] if before is None else before * rule["times"]
    return values


def columns_read(suite: Mapping[str, Any]) -> set[str]:
    """Columns of the table that the suite's `rows` expectations look at."""
    return {c for e in suite["expectations"] if e["meta"]["on"] == "rows" for c in _columns(e)}


def _columns(expectation: Mapping[str, Any]) -> list[str]:
    kwargs = expectation["kwargs"]
    named = [kwargs[part] for part in ("column", "column_A", "column_B") if part in kwargs]
    return named + list(kwargs.get("column_list", ()))


def new_context() -> Any:
    """A Great Expectations context in memory, silent and without telemetry."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def judge(
    context: Any,
    table: str,
    batches: Mapping[str, Any],
    values: Mapping[str, Any],
    quarantine: Sequence[Mapping[str, Any]],
) -> list[Outcome]:
    """Run the suite of one table on its batches.

    Args:
        context: from `new_context`.
        table: which table.
        batches: batch -> pandas frame. Expectations about a missing batch are not checked.
        values: from `parameters`.
        quarantine: rows set aside, which are shown if a figure about them fails.

    Returns:
        The outcomes, batch by batch.
    """
    import great_expectations as gx

    suite = load_suite(table)
    outcomes: list[Outcome] = []
    for on, frame in batches.items():
        asset = context.data_sources.add_pandas(f"{table}.{on}").add_dataframe_asset(table)
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
        key = [c for c in CONTRACT[table].key if c in frame] if on == "rows" else ["column"] if on == "dtypes" else []
        chosen = []
        for expectation in (e for e in suite["expectations"] if e["meta"]["on"] == on):
            lacking = [c for c in _columns(expectation) if on in ("rows", "figures") and c not in frame]
            if lacking and "column_list" in expectation["kwargs"]:
                kept = [c for c in expectation["kwargs"]["column_list"] if c in frame]
                expectation = {**expectation, "kwargs": {**expectation["kwargs"], "column_list": kept}}
                lacking = [] if len(kept) > 1 else lacking
            bounded = _given(expectation, values)
            if lacking or bounded is None:
                why = f"the table has no {', '.join(lacking)}" if lacking else "there is no earlier run to compare with"
                outcomes.append(_outcome(table, expectation, "not applicable", why))
            else:
                chosen.append(bounded)
        if not chosen:
            continue
        form = {"result_format": "SUMMARY", "partial_unexpected_count": SHOWN_ROWS}
        built = gx.ExpectationSuite(name=f"{table}.{on}", expectations=chosen)
        options = {**form, "unexpected_index_column_names": key} if key else form
        result = batch.validate(built, result_format=options, expectation_parameters=dict(values))
        figures = frame.iloc[0].to_dict() if on == "figures" else {}
        outcomes += [_read(table, one.to_json_dict(), figures, quarantine) for one in result.results]
    return outcomes


def _given(expectation: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The expectation without the bounds that this run does not set. None if no bound is left."""
    unset = {
        name
        for name, value in expectation["kwargs"].items()
        if isinstance(value, dict) and "$PARAMETER" in value and values[value["$PARAMETER"]] is None
    }
    kwargs = {name: value for name, value in expectation["kwargs"].items() if name not in unset}
    if unset and not {"min_value", "max_value"} & kwargs.keys():
        return None
    return {**expectation, "kwargs": kwargs}


def _outcome(
    table: str, config: Mapping[str, Any], status: str, observed: str, rows: Sequence[dict[str, Any]] = ()
) -> Outcome:
    kwargs = {name: value for name, value in config["kwargs"].items() if name != "batch_id"}
    column = "" if "found" in _columns(config) else ", ".join(_columns(config))
    bounds = [", ".join(kwargs[b]) for b in ("value_set", "column_set") if b in kwargs]
    words = {"min_value": "at least", "max_value": "at most"}
    # A bound that this run does not set is still a reference to its parameter.
    ends = [f"{word} {kwargs[b]}" for b, word in words.items() if b in kwargs and not isinstance(kwargs[b], dict)]
    return Outcome(
        table=table,
        column=column,
        expectation=config["type"],
        sentence=config["meta"]["sentence"],
        severity=config["severity"],
        status=status,
        wanted=" and ".join(ends or bounds),
        observed=observed,
        rows=tuple(rows[:SHOWN_ROWS]),
    )


def _read(
    table: str, one: Mapping[str, Any], figures: Mapping[str, float], quarantine: Sequence[Mapping[str, Any]]
) -> Outcome:
    config, result = one["expectation_config"], one["result"]
    on, status = config["meta"]["on"], "passed" if one["success"] else "failed"
    rows: list[dict[str, Any]] = list(result.get("partial_unexpected_index_list") or [])
    if "observed_value" in result:
        observed = str(result["observed_value"])
        if isinstance(result["observed_value"], list):
            observed = ", ".join(map(str, result["observed_value"]))
        missing = result.get("details", {}).get("mismatched", {}).get("missing")
        if missing:
            observed = f"no column {', '.join(missing)}; there are {', '.join(result['observed_value'])}"
    elif "unexpected_count" in result:
        observed = f"{result['unexpected_count']:,} of {result['element_count']:,} rows"
    else:
        observed = f"the expectation could not be judged: {one['exception_info']}"[:LONGEST_EXCEPTION]
    if on == "figures" and config["kwargs"].get("column") in figures:
        observed, rows = f"{figures[config['kwargs']['column']]:,.6g}", []
        column = str(config["kwargs"]["column"])
        if status == "failed" and ("quarantined" in column or "orphan" in column):
            part = column.removeprefix("orphan_share_") if "orphan" in column else ""
            rows = [dict(row) for row in quarantine if part in str(row["_reason"])]
    return _outcome(table, config, status, observed, rows)
