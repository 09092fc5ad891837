"""Targets whose file says in a column who took part: the rows with a true label are participations, too."""

import duckdb

from recommender.datasets.mapping import LABEL_COLUMNS, TRUE_WORDS, TableMapping
from recommender.errors import ContractError

LABEL = "_label"
"""Column of a part of targets: whether the row's user took part."""
FALSE_WORDS = ("0", "0.0", "false", "f", "no", "n")
"""Words of a label that mean no. Letter case does not count."""


def label_sql(part: TableMapping) -> str:
    """SQL of whether a row's label is true."""
    words = ", ".join(_literal(word.lower()) for word in part.label_values)
    return f"coalesce({_word(part)} IN ({words}), false)"


def check_label_words(connection: duckdb.DuckDBPyConnection, relation: str, part: TableMapping, path: str) -> None:
    """Check that every word of the label is known to mean yes or no.

    A mapping that sets `label_values` has said what is true, and all else is false.

    Raises:
        ContractError: a word may mean either; lists the words with their rows.
    """
    if part.label_values != TRUE_WORDS:
        return
    known = ", ".join(_literal(word) for word in (*TRUE_WORDS, *FALSE_WORDS, *(word.lower() for word in part.nulls)))
    unknown = connection.execute(
        f"SELECT {_word(part)}, count(*) FROM {relation} WHERE {_word(part)} NOT IN ({known}) "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10"
    ).fetchall()
    if unknown:
        listed = ", ".join(f"{word!r} ({rows:,} rows)" for word, rows in unknown)
        problem = f"{path}, column {part.label!r}: cannot tell who took part from {listed}; set `label_values`"
        raise ContractError("targets", problem)


def split_labels(
    connection: duckdb.DuckDBPyConnection,
    columns: list[str],
    has_participations: bool,
    left_out: dict[str, int],
    decisions: list[str],
) -> list[str] | None:
    """Split the view `targets` with `_label` into targets and participations.

    The view `targets` then has one row for each user and campaign, the earliest. A participation is known at its own
    time, else at the time of targeting, else at the end of the window, which the manifest says.

    Args:
        connection: has the views `targets` and `campaigns`.
        columns: the columns of `targets`; those of participations are taken out.
        has_participations: whether the mapping has a file of them, to which the labels are added.
        left_out: rule -> rows of targets that it leaves out; grows.
        decisions: sentences for the manifest; grows.

    Returns:
        The columns of the view `labelled_participations`. None where the targets have no label.
    """
    if LABEL not in columns:
        return None
    connection.execute("ALTER VIEW targets RENAME TO targets_with_labels")
    times = [f"t.{column}" for column in ("participated_at", "targeted_at") if column in columns]
    known_at = ", ".join([*times, "c.ends_at - INTERVAL 1 MICROSECOND"])
    coupon = "t.coupon_id, " if "coupon_id" in columns else ""
    connection.execute(
        f"CREATE VIEW labelled_participations AS SELECT DISTINCT t.campaign_id, t.user_id, {coupon}"
        f"coalesce({known_at}) AS participated_at FROM targets_with_labels t LEFT JOIN campaigns c USING (campaign_id) "
        f"WHERE t.{LABEL}"
    )
    for column in (LABEL, *LABEL_COLUMNS):
        if column in columns:
            columns.remove(column)
    order = "targeted_at, _key" if "targeted_at" in columns else "_key"
    connection.execute(
        f"CREATE VIEW targets AS SELECT {', '.join(columns)} FROM targets_with_labels "
        f"QUALIFY campaign_id IS NULL OR user_id IS NULL "
        f"OR row_number() OVER (PARTITION BY campaign_id, user_id ORDER BY {order}) = 1"
    )
    query = (
        f"SELECT count(*), count(*) FILTER ({LABEL}), (SELECT count(*) FROM targets), "
        f"{'count(*) FILTER (' + LABEL + ' AND ' + times[0] + ' IS NULL)' if times else '0'} FROM targets_with_labels t"
    )
    rows, true, kept, untimed = connection.execute(query).fetchone() or (0, 0, 0, 0)
    if kept < rows:
        left_out["another row of the same campaign and user"] = rows - kept
    at = {0: "the end of the campaign's window", 1: times[0].removeprefix("t.") if times else ""}[bool(times)]
    decisions.append(
        f"participations: the {true:,} of {rows:,} targets whose label is true; known at {at}"
        f"{f', {untimed:,} of them without one at the next best time' if untimed else ''}."
    )
    if has_participations:
        decisions.append("participations: those of the labels and those of the file of participations together.")
    return ["campaign_id", "user_id", *(["coupon_id"] if coupon else []), "participated_at"]


def _word(part: TableMapping) -> str:
    quoted = (part.label or "").replace('"', '""')
    return f"coalesce(lower(trim(\"{quoted}\"::VARCHAR)), '')"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
