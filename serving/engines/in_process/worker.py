"""A worker process: loads one version, and answers over the socket that it inherited until the gateway closes it.

`python -m serving.engines.in_process.worker SOCKET SLOT VERSION BUNDLE`, started by `workers.Worker` only.
"""

import ctypes
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO

import orjson

from recommender import logs
from recommender.settings import settings_from_json
from serving import config
from serving.engines.in_process.frames import REQUEST, answer
from serving.request import PROBE
from serving.worker.answering import Answering
from serving.worker.bodies import respond

log = logs.get(__name__)
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def main(words: list[str]) -> int:
    """Answer until the gateway closes the socket. The exit code is 1 when the version cannot be loaded."""
    _end_with_parent()
    # A stop signal goes to the gateway's whole process group. The gateway finishes what is in flight, which needs us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    descriptor, slot, version, bundle = words
    with socket.socket(fileno=int(descriptor)) as connection, connection.makefile("rb") as requests:
        first = _body(requests)
        if first is None:
            return 1
        settings = settings_from_json(first.decode())
        logs.configure(process="worker", file=config.log_file(settings, f"worker-{slot}"))
        try:
            answering = Answering(settings, version, Path(bundle))
            _check(answering)
        except Exception as error:  # whatever it is, the deployer is to know why the version does not load
            log.exception("version cannot be loaded", model_version=version)
            connection.sendall(answer(500, f"{type(error).__name__}: {error}".encode()))
            return 1
        connection.sendall(answer(200, b"{}"))
        while (body := _body(requests)) is not None:
            connection.sendall(answer(*respond(answering, body)))
        answering.close()
    return 0


def _body(requests: BinaryIO) -> bytes | None:
    head = requests.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    (length,) = REQUEST.unpack(head)
    body = requests.read(length)
    return body if len(body) == length else None


def _check(answering: Answering) -> None:
    status, document = respond(answering, orjson.dumps(PROBE))
    if status != 200:
        raise RuntimeError(f"a real prediction answers {status}: {document.decode()}")


def _end_with_parent() -> None:
    """Let the kernel end this process with the gateway, also when it is in the middle of an endless computation."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
