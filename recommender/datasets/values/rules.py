"""Chooses the rule that reads a column of a file as a canonical column, from the mapping and the contract."""

import duckdb
import pyarrow as pa

from recommender.datasets.mapping import SourceMapping, TableMapping
from recommender.datasets.tables import CONTRACT
from recommender.datasets.values.column import Column, Rule
from recommender.datasets.values.identifiers import Identifier
from recommender.datasets.values.numbers import Number
from recommender.datasets.values.times import Time
from recommender.datasets.values.words import Kind, Text

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb")


def column_of(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    *,
    name: str,
    type: str,
    table: str,
    canonical: str,
    part: TableMapping,
    row_means: str = "record",
    trimmed: bool = False,
) -> Column:
    """A file's column, with what its part of the mapping says of words and missing values.

    Args:
        connection: Where the relation is.
        relation: The view of the file's rows: `_file`, `_row` and its columns.
        name: The file's column.
        type: Its DuckDB type, as `str(type)`.
        table: The canonical table.
        canonical: The canonical column.
        part: The part of the mapping.
        row_means: What the relation's `_row` counts, as in `RawTable`.
        trimmed: Whether certainly no cell begins or ends with a blank.
    """
    return Column(
        connection=connection,
        relation=relation,
        name=name,
        type=type,
        table=table,
        canonical=canonical,
        path=part.name,
        nulls=part.nulls,
        words=part.values.get(canonical, {}),
        workbook=part.name.lower().endswith(WORKBOOKS),
        row_means=row_means,
        trimmed=trimmed,
    )


def rule_of(column: Column, part: TableMapping, source: SourceMapping) -> Rule:
    """The rule for a canonical column: by its name where it is an identifier, else by its dtype in the contract."""
    columns = CONTRACT[column.table].columns
    # A file of targets with a label also has the columns of a participation.
    wanted = (columns if column.canonical in columns else CONTRACT["participations"].columns)[column.canonical]
    if pa.types.is_timestamp(wanted.dtype):
        return Time(
            column,
            zone=source.time_zone,
            format=part.formats.get(column.canonical),
            first_day=part.first_day,
            earliest=source.times.earliest,
            latest=source.times.latest,
        )
    if not pa.types.is_string(wanted.dtype):
        # A constant is a number of the mapping, where a point is always the decimal mark.
        is_constant = column.canonical in part.constants and column.canonical not in part.columns
        return Number(column, "." if is_constant else part.decimal, None if is_constant else part.thousands)
    if wanted.values:
        return Kind(column, wanted.values)
    if column.canonical.endswith("_id"):
        return Identifier(column, lower=source.identifiers == "lower")
    return Text(column)
