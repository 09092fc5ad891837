"""Starts the gateway in one process or, where the settings say so, in several."""

import signal

import uvicorn

from recommender import logs
from serving import config
from serving.gateway.processes import parent
from serving.gateway.server import prepare


def main() -> None:
    """Serve until a signal comes, and finish requests in flight first."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a drain before anything is served changes nothing
    settings = config.of_environment()
    logs.configure(process="gateway", file=config.log_file(settings, "gateway"))
    if settings.serving.gateway_processes == 1:
        server, sockets = prepare(settings)
        server.run(sockets)
    else:
        address = uvicorn.Config("", host=settings.serving.host, port=settings.serving.port, log_config=None)
        parent.serve(settings, address.bind_socket())
