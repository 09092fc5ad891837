"""A KFP endpoint for tests: a real HTTP server that replays a real server's answers (tests/pipelines/kfp_answers).

What is made by requests (pipelines, versions, experiments, runs, schedules) is kept in memory, in the recorded shape.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ANSWERS = Path(__file__).parent / "pipelines" / "kfp_answers"
TOKEN = "the-token-of-the-test"
OWN = "campaigns"
"""The only namespace in which the token may do anything."""


class KfpEndpoint:
    """What the server knows, and what it was asked."""

    def __init__(self, *, multi_user: bool, version: str = "2.17.0", runs: tuple[str, ...] = ("run-promoted",)) -> None:
        """`runs`: the recorded answers to the first, second … question for a run. The last one is repeated."""
        self.multi_user, self.version, self.runs = multi_user, version, runs
        self.made: dict[str, list[dict[str, Any]]] = {
            kind: [] for kind in ("pipelines", "versions", "experiments", "runs", "recurringruns")
        }
        self.asked: list[tuple[str, str]] = []
        """Method and path with query of each request."""
        self.looks = 0
        self.away_for = 0
        """So many questions for a run are answered with 503 first."""
        self.expires_after: int | None = None
        """After so many answers about a run the token counts as expired."""

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of one request."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        self.asked.append((method, target))
        if url.path == "/apis/v2beta1/healthz":
            health = recorded("healthz.json") | {"multi_user": self.multi_user, "tag_name": self.version}
            return 200, json.dumps(health).encode()
        if self.expires_after is not None and self.looks >= self.expires_after:
            return raw("experiments-wrong-token.http")
        if self.multi_user and token != f"Bearer {TOKEN}":
            return raw("experiments-wrong-token.http" if token else "experiments-without-a-token.http")
        if self.multi_user and query.get("namespace", OWN) != OWN:
            return raw("experiments-foreign-namespace.http")
        return self._of(method, url.path, query, body)

    def _of(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if found := re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/[^/]+/log", path):
            return 200, (ANSWERS / "step-refused.log").read_bytes()
        path = path.removeprefix("/apis/v2beta1/")
        if path == "pipelines/upload_version":
            made = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "name": query["name"]}
            return self._make("versions", "pipeline_version_id", {**made, "package": body.decode()})
        if found := re.fullmatch(r"pipelines/([^/]+)/versions", path):
            versions = [one for one in self.made["versions"] if one["pipeline_id"] == found[1]]
            return 200, json.dumps({"pipeline_versions": versions} if versions else {}).encode()
        if found := re.fullmatch(r"runs/([^/]+)", path):
            if self.away_for:
                self.away_for -= 1
                return 503, b"upstream connect error"
            name = self.runs[min(self.looks, len(self.runs) - 1)]
            self.looks += 1
            return 200, (ANSWERS / f"{name}.json").read_bytes()
        if method == "DELETE" and (found := re.fullmatch(r"recurringruns/([^/]+)", path)):
            left = [one for one in self.made["recurringruns"] if one["recurring_run_id"] != found[1]]
            self.made["recurringruns"] = left
            return 200, b"{}"
        kinds = {"pipelines": "pipeline_id", "experiments": "experiment_id", "runs": "run_id"}
        kinds["recurringruns"] = "recurring_run_id"
        if path not in kinds:
            return 404, json.dumps({"code": 5, "message": f"no {path}"}).encode()
        if method == "POST":
            return self._make(path, kinds[path], json.loads(body))
        key = "recurringRuns" if path == "recurringruns" else path
        # One entry a page, so that lists are read to their end.
        first = int(query.get("page_token") or 0)
        listed: dict[str, Any] = {key: self.made[path][first : first + 1], "total_size": len(self.made[path])}
        if first + 1 < len(self.made[path]):
            listed["next_page_token"] = str(first + 1)
        return 200, json.dumps(listed).encode()

    def _make(self, kind: str, key: str, what: dict[str, Any]) -> tuple[int, bytes]:
        made = {**what, key: f"{kind}-{len(self.made[kind]) + 1}"}
        if kind == "recurringruns":
            made = {**made, "status": "ENABLED"}
        self.made[kind].append(made)
        return 200, json.dumps({name: value for name, value in made.items() if name != "package"}).encode()


def recorded(name: str) -> dict[str, Any]:
    """A recorded answer."""
    answer: dict[str, Any] = json.loads((ANSWERS / name).read_text(encoding="utf-8"))
    return answer


def raw(name: str) -> tuple[int, bytes]:
    """Status and body of an answer that was recorded with its headers."""
    head, _, body = (ANSWERS / name).read_text(encoding="utf-8").replace("\r\n", "\n").partition("\n\n")
    return int(head.split()[1]), body.encode()


class AnswersByPath:
    """A Kubernetes API server that knows what it was given by path, and answers 404, or 403 below `forbidden`."""

    def __init__(self, objects: dict[str, dict[str, Any]], *, forbidden: tuple[str, ...] = ()) -> None:
        self.objects, self.forbidden = objects, forbidden

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of one request."""
        del method, token, body
        path = urlsplit(target).path
        if path.startswith(self.forbidden) and self.forbidden:
            return 403, json.dumps({"kind": "Status", "status": "Failure", "code": 403}).encode()
        if path in self.objects:
            return 200, json.dumps(self.objects[path]).encode()
        return 404, json.dumps({"kind": "Status", "status": "Failure", "code": 404}).encode()


@contextmanager
def listening(service: KfpEndpoint | AnswersByPath) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            token = self.headers.get("Authorization", "")
            status, body = service.answer(self.command, self.path, token, self.rfile.read(length))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
