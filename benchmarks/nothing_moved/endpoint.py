"""The running endpoint of a side, and one request to it."""

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.nothing_moved.inputs import Request
from benchmarks.nothing_moved.side import SPELLINGS, RunFailed, Side, last_lines

READY_S, STOPPED_S = 180, 60
"""How long a busy machine may take to start TorchServe and load two models, and to stop them. By hand."""
Reply = tuple[Request, int, Any]
"""A request, and its reply's status and JSON body."""


@contextmanager
def running(side: Side) -> Iterator[int]:
    """Start the endpoint of the shop, yield the gateway's port, and stop everything in the end."""
    port, settings = side.write_shop_settings()["port"], ["--settings", str(side.shop_settings)]
    log = side.folder / "serve.log"
    (spelling,) = SPELLINGS["serve"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*side.command, *spelling, *settings],
            cwd=side.folder,
            env=side.environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_S
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunFailed(
                    f"the endpoint did not become ready: {' | '.join(last_lines(log.read_text()))} (log: {log})"
                )
            time.sleep(0.5)  # by hand: a start takes tens of seconds
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Prints "nothing was running" after a clean end. TorchServe and the gateway lead separate process groups.
        side.recommender("stop", *settings, log="stop")


def _is_ready(port: int) -> bool:
    try:
        return _send(port, "GET", "/readyz", b"", "application/json")[0] == 200
    except OSError:
        return False


def post(port: int, request: Request, earlier: list[Reply]) -> tuple[int, Any]:
    """Status and JSON body of the gateway's reply."""
    body = request.body
    if request.shown is not None:
        number, which = request.shown
        answer = earlier[number][2]
        named = [campaign["campaign_id"] for campaign in answer["campaigns"]][:1]
        campaigns = {"all": {}, "first": {"campaign_ids": named}, "foreign": {"campaign_ids": ["campaign-of-nobody"]}}
        body = json.dumps({"request_id": answer["request_id"], **campaigns[which]})
    status, content = _send(port, "POST", request.path, body.encode(), request.content_type)
    return status, json.loads(content)


def _send(port: int, method: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)  # beyond every deadline of SERVING
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
