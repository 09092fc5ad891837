"""Structured logs of every process: readable lines on a terminal, one JSON object per line otherwise.

A program calls `configure` once at its start, and modules ask for a logger with `get`. Each line has timestamp, level,
process, version (this software's release), logger and event. Lines of a request also have request_id and seconds. Of a
user, nothing but an id is ever logged.

    log = logs.get(__name__)
    log.info("bundle loaded", model_version=version, seconds=0.31)
"""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

DISTRIBUTION = "campaign-recommender"
OURS = ("recommender", "serving", "feature_repo", "components", "pipelines", "cli", "benchmarks")
"""Packages whose lines are written from the chosen level on. Of all libraries only warnings and errors are."""
FILE_BYTES, OLD_FILES = 50 * 2**20, 3
"""A log file is renamed at 50 MiB and three old ones are kept, so that a log takes about 200 MiB. Chosen by hand."""

_bound: ContextVar[dict[str, object]] = ContextVar("bound", default={})  # noqa: B039 (it is replaced, never changed)
"""What `bind` added. One dictionary, because a context variable for each fact costs more than the rest of a line."""


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The structured logger of a module, which writes through the standard library's logger of that name."""
    # Wrapped here, not by structlog's global configuration: an unconfigured structlog would print to stdout.
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()
    return logger


def write(logger: logging.Logger, level: int, event: str, **facts: object) -> None:
    """Write one line of a logger of the standard library's, as the one of `get` would.

    For a line per request: structlog and `logging` take twice as long to make the same record.
    """
    if logger.isEnabledFor(level):
        record = logging.LogRecord(logger.name, level, "", 0, {"event": event, **facts}, (), None)
        logger.handle(record)


def bind(**facts: object) -> None:
    """Add facts (such as request_id) to every later line of this thread or asynchronous task."""
    _bound.set({**_bound.get(), **facts})


def rebind(**facts: object) -> None:
    """Forget what `bind` added in this thread or asynchronous task, and add these facts."""
    _bound.set(facts)


def bound() -> Mapping[str, object]:
    """What `bind` added in this thread or asynchronous task."""
    return _bound.get()


def configure(
    *,
    process: str,
    level: str = "INFO",
    stream: IO[str] | None = None,
    file: Path | None = None,
    verbatim: str | None = None,
) -> None:
    """Send the logs of this process and of its libraries to one place.

    A second call replaces the first.

    Args:
        process: What runs, such as "gateway", "worker", "deployer", "step:train_ranker" or "cli".
        level: The least severe level that is written of this software; of libraries it is WARNING.
        stream: Where lines go; None: whatever `sys.stderr` is when a line is written.
        file: A file in place of a stream; it is rotated by size.
        verbatim: Messages that begin with this text are written as they are, because another program parses them.
    """
    handler: logging.Handler
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _RotatedFile(file, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
    else:
        handler = _Stderr() if stream is None else logging.StreamHandler(stream)
    terminal = file is None and (sys.stderr if stream is None else stream).isatty()
    facts = {"process": process, "version": _release()}
    handler.setFormatter(_Formatter(facts, _for_people() if terminal else _for_machines(), verbatim))
    # No line shows thread, process, task, or place in the code, so none of them is looked up for each line
    # (logging's HOWTO, "Optimization").
    for looked_up in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile"):
        setattr(logging, looked_up, None)
    root = logging.getLogger()
    for previous in root.handlers:
        if isinstance(previous, _RotatedFile):
            previous.close()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level)


class _Stderr(logging.StreamHandler[Any]):
    """Writes to whatever `sys.stderr` is at that moment: Rich replaces it while a progress bar is on the terminal."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _RotatedFile(RotatingFileHandler):
    """Begins a new file once the present one is full. Each line is one write, and its bytes are counted here."""

    stream: Any

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._written >= self.maxBytes:
                self.doRollover()
            self.stream.write(line)
            self._written += len(line)
        except Exception:
            self.handleError(record)

    def _open(self) -> Any:
        stream = io.FileIO(self.baseFilename, "a")
        self._written = os.fstat(stream.fileno()).st_size
        return stream


class _Formatter(logging.Formatter):
    """Completes an event, or a message of a library, with the facts that every line has, and renders it."""

    def __init__(self, facts: dict[str, str], renderers: Sequence[Processor], verbatim: str | None) -> None:
        super().__init__()
        self._facts, self._renderers, self._verbatim = facts, renderers, verbatim

    def format(self, record: logging.LogRecord) -> str:
        event = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        if self._verbatim is not None and str(event["event"]).startswith(self._verbatim):
            return str(event["event"])
        line: Any = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            **self._facts,
            "logger": record.name,
            "event": event["event"],
            **_bound.get(),
            **event,
        }
        if record.exc_info:
            line["exc_info"] = record.exc_info
        for renderer in self._renderers:
            line = renderer(None, record.levelname.lower(), line)
        return str(line)


def _for_people() -> list[Processor]:
    # The plain formatter, because the others print local variables, which may hold anything of a user.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _for_machines() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


def _json(event: EventDict, default: Callable[[Any], Any]) -> str:
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:  # a lone surrogate or an integer beyond 64 bits, which the standard library escapes or writes
        return json.dumps(event, default=default)


def _release() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"
