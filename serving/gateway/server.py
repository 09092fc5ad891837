"""Runs the gateway's application in uvicorn."""

import uvicorn

from recommender import logs
from serving import config
from serving.gateway.app import create

DRAIN_S = 15
"""Seconds for requests in flight after a stop signal: many deadlines, and within a pod's grace period of 60 s."""


def main() -> None:
    """Serve until a signal comes, and finish requests in flight first."""
    settings = config.of_environment()
    logs.configure(process="gateway", file=config.log_file(settings, "gateway"))
    uvicorn.run(
        create(settings),
        host=settings.serving.host,
        port=settings.serving.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        # Its loggers go through ours, and `RequestLog` writes the line of a request.
        log_config=None,
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
