"""The suites of expectations (`expectations/*.json`), one for each table, and their run through Great Expectations.

Great Expectations sees figures only, never the rows of a table. An expectation's `meta.on` names what it looks at:

    columns   an empty frame with the file's columns
    dtypes    one row for each column: found, wanted
    figures   one row with the figures of all tables (`figures.py`)

The checks of `recommender.datasets.checks` and `recommender.datasets.facts` are a frame with one row for each check:
name, value, least, most.

The bounds of the suites are chosen by hand (5 % of rows set aside, 1 % of orphans, a fifth fewer or three times as many
rows, half to twice a share). They pass a shop's ordinary days and catch a broken export. `meta.sentence` is the
expectation in words. The suite's `meta.parameters` derives bounds from a figure of the previous run.
"""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from components.validate_data.outcome import Outcome
from recommender.datasets.checks import Check

LONGEST_EXCEPTION = 300
"""Characters of an exception inside Great Expectations that are shown; the rest is traceback. By hand."""


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

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def judge_schema(context: Any, table: str, on: str, frame: Any) -> list[Outcome]:
    """Judge a table's columns (`on` = columns: an empty frame) or their dtypes (`on` = dtypes)."""
    chosen = [one for one in load_suite(table)["expectations"] if one["meta"]["on"] == on]
    found = _run(context, f"{table}.{on}", frame, chosen, index=["column"] if on == "dtypes" else [])
    return [_schema_outcome(table, one) for one in found]


def judge_figures(
    context: Any,
    found: Mapping[str, Mapping[str, float | None]],
    before: Mapping[str, Mapping[str, float | None]],
) -> list[Outcome]:
    """Judge the figures of all tables in one frame of one row.

    A figure that this run lacks and the last good run had is a failure, not "not applicable".

    Args:
        context: from `new_context`.
        found: table -> figure -> value. None where there is nothing to count.
        before: the same of the last good run. Empty without one.
    """
    import pandas as pd

    outcomes: list[Outcome] = []
    chosen, frame = [], {}
    for table, own in found.items():
        suite = load_suite(table)
        values = parameters(suite, before.get(table, {}))
        for expectation in suite["expectations"]:
            if expectation["meta"]["on"] != "figures":
                continue
            figure = str(expectation["kwargs"]["column"])
            bounded = _given(expectation, values)
            if own.get(figure) is None and before.get(table, {}).get(figure) is not None:
                outcomes.append(_vanished(table, expectation, before[table][figure]))
            elif own.get(figure) is None or bounded is None:
                lacking = own.get(figure) is None
                why = "the table has no such figure" if lacking else "there is no earlier run to compare with"
                outcomes.append(_outcome(table, expectation, "not applicable", why))
            else:
                name = f"{table}.{figure}"
                frame[name] = [own[figure]]
                meta = {**bounded["meta"], "table": table}
                chosen.append({**bounded, "kwargs": {**bounded["kwargs"], "column": name}, "meta": meta})
    for one in _run(context, "figures", pd.DataFrame(frame), chosen):
        config = one["expectation_config"]
        table, _, figure = str(config["kwargs"]["column"]).partition(".")
        config = {**config, "kwargs": {**config["kwargs"], "column": figure}}
        value = found[table][figure] or 0.0
        outcomes.append(_outcome(table, config, _status(one), f"{value:,.6g}", value=float(value)))
    return outcomes


def judge_checks(context: Any, checks: Sequence[Check]) -> list[Outcome]:
    """Judge checks: a frame with one row for each, whose value must lie between `least` and `most`."""
    import pandas as pd

    infinite = float("inf")
    outcomes: list[Outcome] = []
    for severity in ("critical", "warning"):
        some = [check for check in checks if check.severity == severity]
        if not some:
            continue
        frame = pd.DataFrame(
            {
                "name": [check.name for check in some],
                "value": [None if check.value != check.value else check.value for check in some],
                "least": [-infinite if check.least is None else check.least for check in some],
                "most": [infinite if check.most is None else check.most for check in some],
            }
        )
        meta = {"on": "checks", "sentence": ""}
        greater = "expect_column_pair_values_a_to_be_greater_than_b"
        pairs = [{"column_A": "value", "column_B": "least"}, {"column_A": "most", "column_B": "value"}]
        chosen = [
            {"type": greater, "kwargs": {**pair, "or_equal": True}, "severity": severity, "meta": meta}
            for pair in pairs
        ]
        known = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "value"}}
        chosen.append({**known, "severity": severity, "meta": meta})
        failed = set()
        for one in _run(context, f"checks.{severity}", frame, chosen, index=["name"]):
            if not one["success"] and "unexpected_index_list" not in one["result"]:
                raise RuntimeError(f"Great Expectations could not judge the checks: {one['exception_info']}")
            failed |= {row["name"] for row in one["result"].get("unexpected_index_list") or []}
        outcomes += [_of_check(check, failed=check.name in failed) for check in some]
    return outcomes


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


def _given(expectation: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The expectation with this run's bounds. None if no bound is left."""
    kwargs = {}
    for name, value in expectation["kwargs"].items():
        bound = values[value["$PARAMETER"]] if isinstance(value, dict) else value
        if bound is not None:
            kwargs[name] = bound
    return {**expectation, "kwargs": kwargs} if {"min_value", "max_value"} & kwargs.keys() else None


def _status(one: Mapping[str, Any]) -> str:
    return "passed" if one["success"] else "failed"


def _vanished(table: str, config: Mapping[str, Any], before: float | None) -> Outcome:
    return _outcome(table, config, "failed", f"nothing to count; it was {before:,.6g} in the last good run")


def _outcome(
    table: str, config: Mapping[str, Any], status: str, observed: str, *, value: float | None = None
) -> Outcome:
    kwargs, figure = config["kwargs"], str(config["kwargs"]["column"])
    words = {"min_value": "at least", "max_value": "at most"}
    # A bound that this run does not set is still a reference to its parameter.
    ends = [f"{word} {kwargs[b]}" for b, word in words.items() if b in kwargs and not isinstance(kwargs[b], dict)]
    return Outcome(
        table=table,
        column=str(config["meta"].get("of") or figure),
        expectation=config["type"],
        check=f"{table}.{figure}",
        sentence=config["meta"]["sentence"],
        severity=config["severity"],
        status=status,
        wanted=" and ".join(ends),
        observed=observed,
        value=value,
    )


def _schema_outcome(table: str, one: Mapping[str, Any]) -> Outcome:
    config, result = one["expectation_config"], one["result"]
    on = config["meta"]["on"]
    if "observed_value" in result:
        observed = ", ".join(map(str, result["observed_value"]))
        missing = result.get("details", {}).get("mismatched", {}).get("missing")
        if missing:
            observed = f"no column {', '.join(missing)}; there are {', '.join(result['observed_value'])}"
    elif "unexpected_count" in result:
        observed = f"{result['unexpected_count']:,} of {result['element_count']:,} columns"
    else:
        observed = f"the expectation could not be judged: {one['exception_info']}"[:LONGEST_EXCEPTION]
    return Outcome(
        table=table,
        column="",
        expectation=config["type"],
        check=f"{table}.{on}",
        sentence=config["meta"]["sentence"],
        severity=config["severity"],
        status=_status(one),
        wanted=", ".join(config["kwargs"].get("column_set", ())),
        observed=observed,
        rows=tuple(result.get("unexpected_index_list") or ()),
    )


def _of_check(check: Check, *, failed: bool) -> Outcome:
    words = {"at least": check.least, "at most": check.most}
    return Outcome(
        table=check.table,
        column=check.column,
        expectation="figure within bounds",
        check=check.name,
        sentence=check.sentence,
        severity=check.severity,
        status="failed" if failed else "passed",
        wanted=" and ".join(f"{word} {bound:.4g}" for word, bound in words.items() if bound is not None),
        observed=f"{check.value:.4g}",
        value=check.value,
        cause=check.cause if failed else "",
    )
