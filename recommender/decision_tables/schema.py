"""Columns of logged decisions: as lines of segments hold them, and as tables hold them.

Analyses read `DECISIONS`. Only `context` is JSON, because every application puts other keys into it. What a line calls
`at` is `decided_at` in a table, because AT is a word of SQL.
"""

SCHEMA_VERSION = 1
"""Part of every day's manifest. A change that a reader of older files has to know gives a new one."""

LINE = {
    "request_id": "VARCHAR",
    "event": "VARCHAR",
    "at": "TIMESTAMPTZ",
    "as_of": "TIMESTAMPTZ",
    "user_id": "VARCHAR",
    "variant": "VARCHAR",
    "propensity": "DOUBLE",
    "assigned_version": "VARCHAR",
    "model_version": "VARCHAR",
    "feature_age_s": "DOUBLE",
    "cold_start": "BOOLEAN",
    "degraded_reasons": "VARCHAR[]",
    "campaigns": "STRUCT(campaign_id VARCHAR, score DOUBLE)[]",
    "candidates": "VARCHAR[]",
    "excluded": "VARCHAR[]",
    "context": "JSON",
    "exploration": "STRUCT(kind VARCHAR, rate DOUBLE, spread DOUBLE, num_candidates BIGINT, first_propensity DOUBLE, "
    "list_propensity DOUBLE)",
    "rerank": "STRUCT(kind VARCHAR, trade_off DOUBLE)",
    "trace_id": "VARCHAR",
    "x_request_id": "VARCHAR",
    "campaign_ids": "VARCHAR[]",
}
"""Keys of a line, of decisions and events alike -> their types in DuckDB."""

DECISIONS = {
    "day": "strptime(left(request_id, 8), '%Y%m%d')::DATE",
    "request_id": "request_id",
    "decided_at": '"at"',
    "as_of": "as_of",
    "user_id": "user_id",
    "variant": "variant",
    "propensity": "propensity",
    "assigned_version": "assigned_version",
    "model_version": "model_version",
    "feature_age_s": "feature_age_s",
    "cold_start": "cold_start",
    "degraded": "len(degraded_reasons) > 0",
    "degraded_reasons": "degraded_reasons",
    "campaigns": "campaigns",
    "candidates": "candidates",
    "excluded": "excluded",
    "context": "context::VARCHAR",
    "exploration_kind": "exploration.kind",
    "exploration_rate": "exploration.rate",
    "exploration_spread": "exploration.spread",
    "num_candidates": "exploration.num_candidates",
    "first_propensity": "exploration.first_propensity",
    "list_propensity": "exploration.list_propensity",
    "rerank_kind": "rerank.kind",
    "rerank_trade_off": "rerank.trade_off",
    "trace_id": "trace_id",
    "x_request_id": "x_request_id",
}
"""Column of the table of decisions -> how it is made from a line. `delivered` is added from the events."""

ADDED = {"trace_id": "VARCHAR", "x_request_id": "VARCHAR"}
"""Columns that tables of decisions written by earlier versions lack -> their types. A new column goes here too."""

EXPOSURES = {"request_id": "request_id", "exposed_at": '"at"', "campaign_ids": "campaign_ids"}
"""Column of the table of exposures -> how it is made from a line. `campaign_ids` is null where all were shown."""
UNDELIVERED = {"request_id": "request_id", "noted_at": '"at"'}
"""Column of the table of answers that did not arrive -> how it is made from a line."""

ORDER = "user_id, decided_at, request_id"
"""Rows of a user lie together, so that a user's records are found, and removed, by reading few of them."""


def select(columns: dict[str, str]) -> str:
    """The list of a SELECT that makes `columns`."""
    return ", ".join(f'{made} AS "{name}"' for name, made in columns.items())


def decisions_in(relation: str) -> str:
    """A relation over tables of decisions, with null in each column that tables of earlier versions lack."""
    nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in ADDED.items())
    return f"(SELECT {nulls} WHERE false UNION ALL BY NAME SELECT * FROM {relation})"


def line_types() -> str:
    """The argument `columns` of DuckDB's read_json."""
    return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in LINE.items()) + "}"


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
