"""The part of the Kubernetes API that Spark calls, on this machine's loopback address.

It keeps objects, tells watchers of changes, and tells a test of each new object, so that the test can run a pod. It
admits every caller and every object, so it also notes what was called: a test compares that with a Role's rights.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
LOOK_S = 0.1
"""How often a watch looks for changes."""


class KubernetesApi:
    """The objects of one namespace, and what was asked of them."""

    def __init__(
        self,
        created: Callable[[str, Object], None] = lambda resource, one: None,
        deleted: Callable[[str, str], None] = lambda resource, name: None,
    ) -> None:
        """Call `created` with a new object's resource and itself, and `deleted` with its resource and name."""
        self.created, self.deleted = created, deleted
        self.objects: dict[str, dict[str, Object]] = {}
        """Resource (`pods`) -> name -> object."""
        self.called: set[tuple[str, str]] = set()
        """Verb and resource, as a Role names them."""
        self.changes: list[tuple[str, str, Object]] = []
        self._lock = threading.RLock()
        self._url = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._url

    @contextmanager
    def serving(self) -> Iterator["KubernetesApi"]:
        """Serve during the block."""
        api = self

        class Handler(_Handler):
            of = api

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self._url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def put(self, resource: str, one: Object) -> Object:
        """Keep an object, new or changed, and tell watchers."""
        with self._lock:
            kept = self.objects.setdefault(resource, {})
            new = one["metadata"]["name"] not in kept
            if new:
                one["metadata"].setdefault("uid", str(uuid.uuid4()))
                one["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            one["metadata"]["resourceVersion"] = str(len(self.changes) + 1)
            kept[one["metadata"]["name"]] = one
            self.changes.append(("ADDED" if new else "MODIFIED", resource, copy.deepcopy(one)))
        if new:
            self.created(resource, one)
        return one

    def remove(self, resource: str, name: str) -> Object | None:
        """Drop an object, if it is there, and tell watchers."""
        with self._lock:
            gone = self.objects.get(resource, {}).pop(name, None)
            if gone is not None:
                self.changes.append(("DELETED", resource, gone))
        if gone is not None:
            self.deleted(resource, name)
        return gone

    def found(self, resource: str, selector: str) -> list[Object]:
        """Objects that have the labels of `a=b,c in (d)`."""
        with self._lock:
            return [one for one in self.objects.get(resource, {}).values() if _matches(one, selector)]


class _Handler(BaseHTTPRequestHandler):
    """One call. Paths are those of the core group: /api/v1/namespaces/NAMESPACE/RESOURCE[/NAME]."""

    of: KubernetesApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        resource, name, query = self._asked()
        if "watch" in query:
            self.of.called.add(("watch", resource))
            self._watch(resource, query)
        elif name:
            self.of.called.add(("get", resource))
            self._answer(self.of.objects.get(resource, {}).get(name))
        else:
            self.of.called.add(("list", resource))
            items = self.of.found(resource, query.get("labelSelector", ""))
            version = str(len(self.of.changes))
            self._answer({**_list_of(resource), "metadata": {"resourceVersion": version}, "items": items})

    def do_POST(self) -> None:
        resource, _, _ = self._asked()
        self.of.called.add(("create", resource))
        body = self._body()
        body["metadata"].setdefault("namespace", self.path.split("/")[4])
        if resource == "pods":
            body.setdefault("status", {"phase": "Pending"})
        self._answer(self.of.put(resource, body), status=201)

    def do_PUT(self) -> None:
        resource, _, _ = self._asked()
        self.of.called.add(("update", resource))
        self._answer(self.of.put(resource, self._body()))

    def do_PATCH(self) -> None:
        resource, name, _ = self._asked()
        self.of.called.add(("patch", resource))
        body = self._body()
        kept = self.of.objects.get(resource, {}).get(name)
        # What Spark patches are labels and owners, which nothing here reads. An object that is missing is applied.
        self._answer(kept if kept is not None or isinstance(body, list) else self.of.put(resource, body))

    def do_DELETE(self) -> None:
        resource, name, query = self._asked()
        self._body()
        self.of.called.add(("delete" if name else "deletecollection", resource))
        selected = self.of.found(resource, query.get("labelSelector", ""))
        for one in [name] if name else [one["metadata"]["name"] for one in selected]:
            self.of.remove(resource, one)
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: tests read what the pods say."""

    def _asked(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        _, _, _, _, _, resource, *name = parts.path.split("/")
        return resource, name[0] if name else "", {key: values[0] for key, values in parse_qs(parts.query).items()}

    def _body(self) -> Any:
        return yaml.safe_load(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def _answer(self, body: Object | None, *, status: int = 200) -> None:
        if body is None:
            body, status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, 404
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _watch(self, resource: str, query: dict[str, str]) -> None:
        if "upgrade" in self.headers.get("Connection", "").lower():
            self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503}, status=503)
            return  # the client asks again, without a WebSocket
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen = int(query.get("resourceVersion") or len(self.of.changes))
        waits = threading.Event()
        while True:
            for kind, of, one in self.of.changes[seen:]:
                seen += 1
                if of == resource and _matches(one, query.get("labelSelector", "")):
                    line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
                    try:
                        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    except OSError:  # the watcher has gone
                        self.close_connection = True
                        return
            waits.wait(LOOK_S)


def _list_of(resource: str) -> Object:
    kinds = {"pods": "Pod", "configmaps": "ConfigMap", "services": "Service"}
    return {"kind": f"{kinds.get(resource, 'PersistentVolumeClaim')}List", "apiVersion": "v1"}


def _matches(one: Object, selector: str) -> bool:
    labels = one["metadata"].get("labels") or {}
    return all(_has(labels, term) for term in _terms(selector))


def _terms(selector: str) -> list[str]:
    """The terms of a selector. A comma inside brackets separates values."""
    terms, depth = [""], 0
    for letter in selector:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            terms.append("")
        else:
            terms[-1] += letter
    return [term.strip() for term in terms if term.strip()]


def _has(labels: dict[str, str], term: str) -> bool:
    if " in (" in term:
        key, values = term.rstrip(")").split(" in (")
        return labels.get(key) in [value.strip() for value in values.split(",")]
    if "!=" in term:
        key, value = term.split("!=")
        return labels.get(key) != value
    if "=" in term:
        key, value = term.replace("==", "=").split("=")
        return labels.get(key) == value
    return term in labels
