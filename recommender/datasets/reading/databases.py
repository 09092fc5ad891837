"""Reads the result of a query to PostgreSQL, streamed in Arrow batches by ADBC into a Parquet file.

The password is the secret `source_password`, or what PostgreSQL's own clients take (PGPASSWORD, ~/.pgpass). It never
stands in the mapping. The session is read-only. NUMERIC arrives as text, with every digit.
"""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import duckdb
import pyarrow as pa

from recommender.datasets.reading.raw import RawTable, first_line, literal, quoted
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceAway, SourceError
from recommender.secrets import secret

SECRET = "source_password"
CONNECT_S = 10
"""Seconds to wait for a database. Chosen by hand."""
AWAY = r"could not connect|Connection refused|could not translate host|timeout expired|starting up|shutting down"
"""PostgreSQL's words, as a pattern, for a server that may be back in a moment."""
OPTIONS = f"connect_timeout={CONNECT_S}&options={quote('-c default_transaction_read_only=on')}"


def open_query(
    connection: duckdb.DuckDBPyConnection, database: str, query: str, *, name: str, scratch: Path
) -> RawTable:
    """Open the result of a query as a view `name`. Its `_row` counts the rows from 1.

    Args:
        connection: where the view is created.
        database: such as postgresql://reader@host/shop.
        query: in the database's own SQL.
        name: of the view.
        scratch: a temporary folder that must outlive the view.

    Raises:
        SourceError: the address holds a password or is of another kind; the server refuses the password or the query.
        SourceAway: the server cannot be reached now.
    """
    label = _checked(database)
    target = new_file(scratch, ".parquet")
    _copy(connection, database, query, label, target)
    source = f"read_parquet({literal(str(target))}, file_row_number = true)"
    own = connection.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {source}").fetchall()
    types = {str(column): str(kind) for column, kind, *_ in own}
    for column in types:
        if column.lower() in ("_file", "_row"):
            raise SourceError(f"{label}: the name {column!r} is kept for a row's origin; rename it in the query")
    columns = ", ".join(map(quoted, types))
    connection.execute(
        f"CREATE VIEW {quoted(name)} AS SELECT {literal(label)} AS _file, file_row_number + 1 AS _row, {columns} "
        f"FROM {source}"
    )
    return RawTable(name, tuple(types), types, label, "record")


def _checked(database: str) -> str:
    """What an error calls the database."""
    parts = urlsplit(database)
    if parts.scheme not in ("postgresql", "postgres"):
        raise SourceError(f"{parts.scheme}://…: no database that is read; write postgresql://user@host/database")
    user, at, host = parts.netloc.rpartition("@")
    label = f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
    if parts.password or "password=" in parts.query.lower():
        raise SourceError(
            f"{label}: a password in the mapping ends up in files and logs; take it out and put it into the secret "
            f"{SECRET} (RECOMMENDER_{SECRET.upper()}) or PGPASSWORD"
        )
    return label


def _copy(connection: duckdb.DuckDBPyConnection, database: str, query: str, label: str, target: Path) -> None:
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    password = secret(SECRET)
    try:
        with dbapi.connect(_with_options(database, password)) as server, server.cursor() as cursor:
            # The driver puts the query into another statement. The line's end closes a comment.
            cursor.execute(f"{query.strip().rstrip(';')}\n")
            batches = cursor.fetch_record_batch()
            _check_columns(label, batches.schema)
            connection.register("_batches", batches)
            try:
                connection.execute(f"COPY (FROM _batches) TO {literal(str(target))} (FORMAT parquet)")
            finally:
                connection.unregister("_batches")
    except (Error, duckdb.Error) as error:
        away = re.search(AWAY, str(error)) is not None
        raise (SourceAway if away else SourceError)(f"{label}: {_explained(error, password)}") from None


def _check_columns(label: str, schema: pa.Schema) -> None:
    """Refuse two columns of one name, and types that arrive as bytes, or as cents without a word."""
    seen: set[str] = set()
    for field in schema:
        if field.name.lower() in seen:
            raise SourceError(f"{label}: the query gives two columns {field.name!r}; rename one with AS")
        seen.add(field.name.lower())
        facts = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        kind = facts.get("POSTGRESQL:type", "")
        if kind == "money" or ("ADBC:postgresql:typname" in facts and kind != "numeric"):
            cast = "numeric" if kind == "money" else "text"
            raise SourceError(
                f"{label}: column {field.name!r} has the type {kind}, which is not read; write "
                f"{field.name}::{cast} AS {field.name} in the query"
            )


def _with_options(database: str, password: str | None) -> str:
    parts = urlsplit(database)
    user, at, host = parts.netloc.rpartition("@")
    if password is not None:
        user, at = f"{user}:{quote(password, safe='')}", "@"
    query = f"{parts.query}&{OPTIONS}" if parts.query else OPTIONS
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}", query=query))


def _explained(error: Exception, password: str | None) -> str:
    """The server's own words in one sentence, without the password."""
    text = str(error)
    if password:
        text = text.replace(password, "***").replace(quote(password, safe=""), "***")
    if re.search(r"password authentication failed|no password supplied", text):
        return f"the server refuses the password; set the secret {SECRET} (RECOMMENDER_{SECRET.upper()}) or PGPASSWORD"
    if re.search(r"could not connect|Connection refused|could not translate host|timeout expired|failed: ", text):
        words = re.sub(r"\s+", " ", text.split("failed: ", 1)[-1])[:200]
        return f"the database cannot be reached ({words}); check `database` in the mapping"
    reason = re.search(r"ERROR:\s*([^\n]+)", text)
    return (
        f"the query failed ({reason[1].strip() if reason else first_line(error)[:200]}); correct `query` in the mapping"
    )
