"""Reads the mapping TOML, which says which of a user's own files and columns hold which canonical table and column.

An example with every key:

    [source]
    time_zone = "Europe/Berlin"            # times without a zone are local to it
    name = "files"                         # the source's name in the manifest
    currency = "EUR"                       # of all amounts; its decimals decide how money is rounded
    rates = { USD = 0.92 }                 # what one unit of another currency is worth, for `currency` columns
    times = { from = 1990-01-01, to = 2100-01-01 }   # plausible times; one outside cannot be read
    identifiers = "exact"                  # or "lower"; default: two that differ only by letter case are refused
    returns = "net"                        # or "keep": a return takes its purchase back, see `returns`

    [inputs.orders]                        # files that a `query` names; the keys of a file, as below
    file = "orders.csv"

    [tables.events]                        # or [[tables.events]], once for each part of the table
    file = "orders-*.csv"                  # relative to this file; *, ? and [] match several files of one shape
    query = "SELECT … FROM orders JOIN lines USING (order_id)"   # instead of `file`: DuckDB SQL over [inputs]
    where = "status <> 'cancelled'"        # DuckDB SQL over the file's own columns; other rows are left out
    columns = { user_id = "customer", event_time = "ordered_at" }   # not needed where the names are the contract's
    constants = { kind = "purchase" }      # the same value in every row
    formats = { event_time = "%d.%m.%Y %H:%M" }   # where it is not found; unix_s, _ms, _us, _ns, excel, day
    values = { kind = { order = "purchase", refund = "return", begin_checkout = "ignore" } }   # their word = ours
    scale = { amount = 0.01, discount = -1 }      # what a number is multiplied by: cents, signs
    per_unit = ["amount"]                  # these are for one unit: multiplied by quantity, where a row has one
    first_day = 2016-01-01                 # the date of day 1, for the format "day"
    label = "redeemed"                     # targets only: rows whose label is true took part, see `label_values`;
                                           # then `columns` may name participated_at and coupon_id, too
    label_values = ["1", "true", "yes"]    # the words that are true
    nulls = ["", "NULL", "n/a"]            # words that stand for a missing value; the default knows the usual ones
    decimal = ","                          # decimal mark; default: a point
    thousands = "."                        # mark between thousands; default: none
    delimiter = ";"                        # default: the commonest of , ; tab | in the header
    encoding = "cp1252"                    # default: found by a byte order mark, else UTF-8
    header = ["customer", "sku", "time"]   # names of the columns of a file that has no header
    sheet = "Orders"                       # Excel only: which sheet; default: the first
"""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError, suggestion

IGNORE = "ignore"
"""The word in `values` that leaves a row out on purpose."""
DEFAULT_NULLS = ("", "null", "none", "nan", "n/a", "na", "nil", "\\n", "#n/a", "<na>", "nat")
"""Words for a missing value in exports of pandas, R, SQL, Excel and Hive. Letter case does not count."""
TRUE_WORDS = ("1", "1.0", "true", "t", "yes", "y")
"""Words of a label that mean yes. Letter case does not count."""
LABEL_COLUMNS = ("participated_at", "coupon_id")
"""Columns of participations that `columns` of targets with a `label` may map, too."""
PER_UNIT = ("amount", "discount", "coupon_discount")
"""Columns of events that `per_unit` may multiply by quantity."""
EARLIEST, LATEST = date(1990, 1, 1), date(2100, 1, 1)
"""Plausible times unless the mapping says otherwise: no online shop is older, and open-ended campaigns end later."""


class _Section(BaseModel):
    """A part of the mapping. An unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PlausibleTimes(_Section):
    """The range of times that a shop can have. A time outside it cannot be read."""

    earliest: date = Field(EARLIEST, alias="from")
    latest: date = Field(LATEST, alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.latest <= self.earliest:
            raise ValueError(f"`to` must be after `from` (got {self.earliest} to {self.latest})")
        return self


class SourceMapping(_Section):
    """What holds for all files: the source's name in the manifest, time zone, currency, identifiers and returns."""

    name: str = "files"
    time_zone: str
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    rates: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict
    )
    times: PlausibleTimes = PlausibleTimes()
    identifiers: Literal["exact", "lower"] | None = None
    returns: Literal["net", "keep"] = "net"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"must be an IANA time zone such as Europe/Berlin (got {zone!r})") from None
        return zone

    @model_validator(mode="after")
    def _rates_need_a_currency(self) -> Self:
        if self.rates and self.currency is None:
            raise ValueError("`rates` need `currency`, the currency into which they convert")
        return self


def _as_list(value: object) -> object:
    """Let one value stand for a list of one."""
    return value if isinstance(value, list) else [value]


class FileFormat(_Section):
    """How a file is opened: all that is needed to get its rows as texts."""

    file: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    header: tuple[str, ...] | None = None
    sheet: str | None = None

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError(f"must be one character, neither a quote nor a line break (got {delimiter!r})")
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                "".encode(encoding)
            except LookupError:
                raise ValueError(
                    f"no such encoding; for example utf-8, utf-16, cp1252, gbk (got {encoding!r})"
                ) from None
        return encoding


class InputMapping(FileFormat):
    """A file, or the result of a query to a database, that a `query` of a table names."""

    file: str | None = None
    database: str | None = None
    query: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.database is None):
            raise ValueError("an input has either `file` or `database`")
        if (self.database is None) != (self.query is None):
            raise ValueError("`database` and `query` go together: the query is sent to the database")
        return self


class TableMapping(FileFormat):
    """One part of one table: a file, several files of one shape, or a query over [inputs]."""

    query: str | None = None
    where: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    constants: dict[str, str | float | int] = Field(default_factory=dict)
    formats: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    scale: dict[str, float] = Field(default_factory=dict)
    per_unit: tuple[str, ...] = ()
    first_day: date | None = None
    label: str | None = None
    label_values: tuple[str, ...] = TRUE_WORDS
    nulls: tuple[str, ...] = DEFAULT_NULLS
    decimal: Literal[".", ","] | None = None
    thousands: Literal[".", ",", " ", "'", ""] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.query is None):
            raise ValueError("a table has either `file` or `query`")
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError(f"`decimal` and `thousands` must differ (both are {self.decimal!r})")
        if "day" in self.formats.values() and self.first_day is None:
            raise ValueError('the format "day" needs `first_day`, the date of day 1')
        return self

    @property
    def name(self) -> str:
        """What an error calls this part: its file, or that it is a query."""
        return self.file or "query"


class Mapping(_Section):
    """The whole file: its source, the inputs of queries, and the parts of each canonical table."""

    source: SourceMapping
    inputs: dict[str, InputMapping] = Field(default_factory=dict)
    tables: dict[str, Annotated[list[TableMapping], BeforeValidator(_as_list), Field(min_length=1)]]

    @field_validator("inputs")
    @classmethod
    def _names_are_identifiers(cls, inputs: dict[str, InputMapping]) -> dict[str, InputMapping]:
        wrong = next((name for name in inputs if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)), None)
        if wrong is not None:
            raise ValueError(f"a name in SQL has letters, digits and _ only (got {wrong!r})")
        return inputs


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping TOML.

    Raises:
        SourceError: the file is missing or not TOML, or names an unknown key, table or column; says which.
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
    for table, parts in mapping.tables.items():
        if table not in CONTRACT:
            raise SourceError(f"{path}: tables.{table}: no such table; {suggestion(table, CONTRACT)}")
        for part in parts:
            _check_columns(path, table, part)
    return mapping


def _check_columns(path: Path, table: str, part: TableMapping) -> None:
    known = dict(CONTRACT[table].columns)
    if part.label is not None:
        known |= {column: CONTRACT["participations"].columns[column] for column in LABEL_COLUMNS}
    for group in ("columns", "constants", "formats", "values", "scale"):
        for column in getattr(part, group):
            if column not in known:
                raise SourceError(
                    f"{path}: tables.{table}.{group}.{column}: no such column; {suggestion(column, known)}"
                )
    for column in part.scale:
        if not pa.types.is_floating(known[column].dtype):
            numbers = [name for name, one in known.items() if pa.types.is_floating(one.dtype)]
            raise SourceError(
                f"{path}: tables.{table}.scale.{column}: not a number; of this table {', '.join(numbers) or 'none'} are"
            )
    money = [column for column in PER_UNIT if column in known]
    for column in part.per_unit:
        if column not in money:
            problem = f"of this table {', '.join(money) or 'none'} can be for one unit"
            raise SourceError(f"{path}: tables.{table}.per_unit: {column!r}: {problem}")
    if part.label is not None and table != "targets":
        raise SourceError(f"{path}: tables.{table}.label: only targets have a label; map its file to targets")


def _problem(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key; {suggestion(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"


def _keys_at(place: tuple[Any, ...]) -> list[str]:
    """The keys that the mapping knows at a place."""
    kinds: dict[str, type[BaseModel]] = {"source": SourceMapping, "inputs": InputMapping, "tables": TableMapping}
    model = kinds.get(str(place[0]), Mapping) if place else Mapping
    if place[:2] == ("source", "times"):
        model = PlausibleTimes
    return [field.alias or name for name, field in model.model_fields.items()]
