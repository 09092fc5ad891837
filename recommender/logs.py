"""Structured logs for every process: key=value lines on a terminal, JSON otherwise.

Each line has event, process, version and level; lines of a request also have request_id and seconds. Of a user nothing but an
id is ever logged.

    log = logs.get(__name__)
    log.info("bundle loaded", version_id=version, seconds=0.31)
"""

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

import structlog

DISTRIBUTION = "campaign-recommender"
QUIET = ("httpx", "httpcore", "kfp", "urllib3", "asyncio")
"""Libraries that log every call at INFO; from them only warnings are of use."""


def configure(*, process: str, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send this process's logs, and those of the libraries it uses, to `stream` (stderr by default).

    process: what runs, such as "gateway", "worker", "deployer", "step:train" or "cli".
    """
    stream = sys.stderr if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _adder(process=process, version=_release()),
    ]
    terminal = stream.isatty()
    final: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=True)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> Any:
    """The logger of a module."""
    return structlog.get_logger(name)


def _adder(**facts: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**facts, **event}

    return add


def _release() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"
