"""Reads the mapping TOML, which maps a user's own files and columns to canonical tables and columns.

An example with every key:

    [source]
    time_zone = "Europe/Berlin"            # times without a zone are local to it

    [tables.events]                        # or [[tables.events]], once for each file
    file = "orders.csv"                    # .csv, .csv.gz, .tsv or .parquet, relative to this file
    columns = { user_id = "customer", event_time = "ordered_at" }   # not needed where the names are the contract's
    constants = { kind = "purchase" }      # the same value in every row
    formats = { event_time = "%d.%m.%Y %H:%M" }   # where a time is not ISO 8601; or unix_s, unix_ms, unix_us
    values = { kind = { order = "purchase" } }    # the source's word = the contract's word
    delimiter = ";"                        # default: the commonest of , ; tab | in the header
    decimal = ","                          # decimal separator; default: a point
"""

import tomllib
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError, suggestion


class _Section(BaseModel):
    """A part of the mapping. An unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceMapping(_Section):
    """Settings for all files: the source's name in the manifest, and the time zone of the shops."""

    name: str = "files"
    time_zone: str

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"must be an IANA time zone such as Europe/Berlin (got {zone!r})") from None
        return zone


class FileMapping(_Section):
    """One file of one table."""

    file: str
    columns: dict[str, str] = Field(default_factory=dict)
    constants: dict[str, str | float | int] = Field(default_factory=dict)
    formats: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    delimiter: str | None = None
    decimal: str = "."

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError(f"must be one character, neither a quote nor a line break (got {delimiter!r})")
        return delimiter


def _as_list(value: object) -> object:
    """Let `[tables.events]` stand for a list of one file."""
    return value if isinstance(value, list) else [value]


class Mapping(_Section):
    """The whole file: its source, and the files of each canonical table."""

    source: SourceMapping
    tables: dict[str, Annotated[list[FileMapping], BeforeValidator(_as_list), Field(min_length=1)]]


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping TOML.

    Raises:
        SourceError: the file is missing or not TOML, or names an unknown key, table or column. Names it.
    """
    try:
        mapping = Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such mapping file; draft one with: recommender draft-mapping FILES") from None
    except ValidationError as error:
        problems = "; ".join(_problem(one) for one in error.errors(include_url=False))
        raise SourceError(f"{path}: {problems}") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as TOML ({error})") from None
    for table, files in mapping.tables.items():
        if table not in CONTRACT:
            raise SourceError(f"{path}: tables.{table}: no such table; {suggestion(table, CONTRACT)}")
        for file in files:
            for group in ("columns", "constants", "formats", "values"):
                for column in getattr(file, group):
                    if column not in CONTRACT[table].columns:
                        hint = suggestion(column, CONTRACT[table].columns)
                        raise SourceError(f"{path}: tables.{table}.{group}.{column}: no such column; {hint}")
    return mapping


def _problem(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    message = "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}"
