"""The mapping TOML: which of one's own files and columns stand for which canonical table and column.

[source]
time_zone = "Europe/Berlin"            # times without a zone are local to it

[tables.events]                        # or [[tables.events]], once for each file
file = "orders.csv"                    # .csv, .csv.gz, .tsv or .parquet, relative to this file
columns = { user_id = "customer", event_time = "ordered_at" }   # columns named as in the contract need no entry
constants = { kind = "purchase" }      # the same value in every row
formats = { event_time = "%d.%m.%Y %H:%M" }   # where a time is not ISO 8601; or unix_s, unix_ms, unix_us
values = { kind = { order = "purchase" } }    # the source's word = the contract's word
delimiter = ";"                        # else found by looking
decimal = ","                          # decimal separator, else a point
"""

import tomllib
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from recommender.datasets.contract import renamed
from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceMapping(Part):
    name: str = "files"
    time_zone: str

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{zone!r} is no IANA time zone, such as Europe/Berlin") from None
        return zone


class FileMapping(Part):
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
            raise ValueError(f"{delimiter!r} is not one character other than a quote or a line's end")
        return delimiter


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


class Mapping(Part):
    source: SourceMapping
    tables: dict[str, Annotated[list[FileMapping], BeforeValidator(_listed), Field(min_length=1)]]


def read_mapping(path: Path) -> Mapping:
    """The mapping in a TOML file.

    Raises:
        SourceError: the file is missing, is no TOML, or names a key, table or column that there is not; says which.
    """
    try:
        mapping = Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such mapping file") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SourceError(f"{path}: {problems}") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as TOML ({error})") from None
    for table, files in mapping.tables.items():
        if table not in CONTRACT:
            raise SourceError(f"{path}: tables.{table}: no such table{renamed(table, list(CONTRACT))}")
        for file in files:
            for group in ("columns", "constants", "formats", "values"):
                for column in getattr(file, group):
                    if column not in CONTRACT[table].columns:
                        hint = renamed(column, list(CONTRACT[table].columns))
                        raise SourceError(f"{path}: tables.{table}.{group}.{column}: no such column{hint}")
    return mapping
