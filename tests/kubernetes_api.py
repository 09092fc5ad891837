"""The part of the Kubernetes API that spark-submit calls, on this machine's loopback address.

It keeps what it is given, admits everything, and starts nothing.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

Objects = dict[str, dict[str, dict[str, Any]]]
"""Resource (`pods`) -> name -> object."""


class KubernetesApi:
    """A served API: its address, and the objects that it was given."""

    def __init__(self, url: str, objects: Objects) -> None:
        self.url, self.objects = url, objects

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator["KubernetesApi"]:
        """Serve during the block."""
        objects: Objects = {}

        class Handler(_Handler):
            kept = objects

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cls(f"http://127.0.0.1:{server.server_address[1]}", objects)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One call. Paths are those of the core group: /api/v1/namespaces/NAMESPACE/RESOURCE[/NAME]."""

    kept: Objects

    def do_POST(self) -> None:
        self._answer(201)

    def do_PATCH(self) -> None:
        """Server-side apply, by which the driver's Service and ConfigMap are made."""
        self._answer(200)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""

    def _answer(self, status: int) -> None:
        resource = urlsplit(self.path).path.split("/")[5]
        one = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        one["metadata"].setdefault("uid", str(uuid.uuid4()))
        self.kept.setdefault(resource, {})[one["metadata"]["name"]] = one
        text = json.dumps(one).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
