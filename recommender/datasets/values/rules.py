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
    )


def rule_of(column: Column, part: TableMapping, source: SourceMapping) -> Rule:
    """The rule for a canonical column: by its name where it is an identifier, else by its dtype in the contract."""
    wanted = CONTRACT[column.table].columns[column.canonical]
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
        return Number(column, part.decimal, part.thousands, part.scale.get(column.canonical, 1.0))
    if wanted.values:
        return Kind(column, wanted.values)
    if column.canonical.endswith("_id"):
        return Identifier(column, lower=source.identifiers == "lower")
    return Text(column)
