"""A KFP endpoint: its version, pipelines, experiments, runs and recurring runs.

Plain HTTP, because `kfp.Client` (2.17) does not do it: it waits for ever for an answer, prints what it does, finds no
pipeline of a namespace, drops the server's version, has no call for a step's log, and ends with an AttributeError at a
wrong certificate. Answers stay JSON, so that a state which a newer server adds is no error here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.kfp_refusals import TOKEN_VARIABLE, Refusal, away, not_kfp, refused
from recommender.errors import SettingsError

API = "/apis/v2beta1"
TIMEOUT_S = (5, 60)
"""To connect, and to read an answer: an upload of 1 MB through a port-forward takes seconds. Chosen by hand."""
PAGE = 100
"""Entries of a list that are asked for at once. KFP gives 20 unless asked, 200 at most."""
SUPPORTED = ("2.17",)
"""Versions of KFP that the whole way was run on."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the endpoint says of itself."""

    version: str
    """Such as 2.17.0. Empty where the server does not say it: it is then no release image."""
    multi_user: bool

    @property
    def doubt(self) -> str:
        """What to know about this version; empty if it is a supported one."""
        if not self.version:
            return f"the endpoint does not say its version; KFP {' and '.join(SUPPORTED)} is supported"
        if not self.version.startswith(tuple(f"{known}." for known in SUPPORTED)):
            return f"the endpoint is KFP {self.version}; what was tried is {' and '.join(SUPPORTED)}"
        return ""


@dataclass(frozen=True)
class _Bearer:
    """Adds the token to a request. Not shown where the object is."""

    token: str = field(repr=False)

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Endpoint:
    """One KFP endpoint, as one user. Every method raises EndpointError where the endpoint is away or refuses."""

    def __init__(self, host: str, *, namespace: str, token: str | None, ui: str = "") -> None:
        """Look at the endpoint.

        Args:
            host: address of the endpoint, such as http://127.0.0.1:8888, or of a proxy's path before it.
            namespace: the namespace that runs belong to. An endpoint for one user ignores it.
            token: sent as bearer token. None: no token.
            ui: address of KFP's UI, for pages. Empty: `host`.

        Raises:
            SettingsError: the token cannot be one. It is not shown.
            EndpointError: the endpoint is away, or is no KFP.
        """
        import requests

        self.host = (host if "://" in host else f"http://{host}").rstrip("/")
        self._ui = ui.rstrip("/") or self.host
        self._asked_namespace = namespace
        self._with_token = bool(token)
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            # The HTTP library would say so too, and print the token.
            raise SettingsError(f"{TOKEN_VARIABLE} holds a blank, a line end or another character that no token has")
        # Not as a header of the session: a login for the host in ~/.netrc would replace it.
        self._auth = _Bearer(token) if token else None
        self.health = self._health()

    @property
    def namespace(self) -> str | None:
        """The namespace to send with requests. None: the endpoint has no namespaces."""
        return self._asked_namespace if self.health.multi_user else None

    def _health(self) -> Health:
        answer = self._ask("see its state", "GET", f"{API}/healthz")
        if not isinstance(answer, dict) or "multi_user" not in answer:
            raise not_kfp(self.host, f"{API}/healthz")
        version = str(answer.get("tag_name", ""))
        return Health(
            version="" if version == "unknown" else version.removeprefix("v"), multi_user=bool(answer["multi_user"])
        )

    def page_of_run(self, run_id: str) -> str:
        """Address of a run's page in KFP's UI."""
        return f"{self._ui}/#/runs/details/{run_id}"

    def pipeline_with(self, name: str) -> str:
        """The id of the namespace's pipeline `name`, which is made, without a version, if it is not there.

        Pipelines that all namespaces share are another person's to change.
        """
        for one in self._list("list pipelines", f"{API}/pipelines", "pipelines", namespace=self.namespace):
            if name in (one.get("name"), one["display_name"]):
                return str(one["pipeline_id"])
        body = {"name": name, "display_name": name, "namespace": self.namespace}
        return str(self._ask("make the pipeline", "POST", f"{API}/pipelines", body=body)["pipeline_id"])

    def version_with(self, pipeline_id: str, name: str, package: Path) -> tuple[str, bool]:
        """The id of a pipeline's version `name`, and whether it was uploaded now."""
        path = f"{API}/pipelines/{pipeline_id}/versions"
        for one in self._list("list the pipeline's versions", path, "pipeline_versions"):
            if name in (one.get("name"), one["display_name"]):
                return str(one["pipeline_version_id"]), False
        with package.open("rb") as content:
            made = self._ask(
                "upload the version",
                "POST",
                f"{API}/pipelines/upload_version",
                query={"name": name, "pipelineid": pipeline_id},
                files={"uploadfile": (package.name, content)},
            )
        return str(made["pipeline_version_id"]), True

    def experiment_with(self, name: str) -> str:
        """The id of an experiment, which is made if it is not there."""
        for one in self._list("list experiments", f"{API}/experiments", "experiments", namespace=self.namespace):
            if one["display_name"] == name:
                return str(one["experiment_id"])
        body = {"display_name": name, "namespace": self.namespace}
        return str(self._ask("make the experiment", "POST", f"{API}/experiments", body=body)["experiment_id"])

    def start(self, run: Mapping[str, Any]) -> str:
        """Start a run. Returns its id."""
        return str(self._ask("start the run", "POST", f"{API}/runs", body=run)["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run, with the state of each task in `run_details.task_details`."""
        answer: dict[str, Any] = self._ask("show the run", "GET", f"{API}/runs/{run_id}")
        return answer

    def log(self, run_id: str, node: str) -> str:
        """The log of one pod of a run. `node`: the pod's name, or its id among `task_details`."""
        path = f"/apis/v1alpha1/runs/{run_id}/nodes/{node}/log"
        answer: str = self._ask("show the step's log", "GET", path, text=True)
        return answer

    def recurring_runs(self) -> list[dict[str, Any]]:
        """All recurring runs that the user may see."""
        return list(self._list("list schedules", f"{API}/recurringruns", "recurringRuns", namespace=self.namespace))

    def start_recurring(self, recurring: Mapping[str, Any]) -> str:
        """Make a recurring run. Returns its id."""
        return str(self._ask("make the schedule", "POST", f"{API}/recurringruns", body=recurring)["recurring_run_id"])

    def end_recurring(self, recurring_run_id: str) -> None:
        """Delete a recurring run. Runs that it has started go on."""
        self._ask("end the schedule", "DELETE", f"{API}/recurringruns/{recurring_run_id}")

    def _list(self, asked: str, path: str, key: str, **query: str | None) -> Iterator[dict[str, Any]]:
        """The entries of a list, over all its pages."""
        token = ""
        while True:
            answer = self._ask(asked, "GET", path, query={**query, "page_size": str(PAGE), "page_token": token})
            yield from answer.get(key, [])
            token = str(answer.get("next_page_token", ""))
            if not token:
                return

    def _ask(
        self,
        asked: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        text: bool = False,
    ) -> Any:
        """One request. Returns the JSON of its answer, or its text."""
        import requests

        try:
            answer = self._session.request(
                method,
                self.host + path,
                params={name: value for name, value in (query or {}).items() if value},
                json=body,
                files=files,
                auth=self._auth,
                timeout=TIMEOUT_S,
                # A redirect leads to a login page, and would send the token to another host.
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise away(self.host, error) from None
        if not 200 <= answer.status_code < 300:
            raise refused(
                self.host,
                Refusal(
                    asked=asked,
                    status=answer.status_code,
                    reason=answer.reason or "",
                    body=answer.text,
                    namespace=self._asked_namespace,
                    with_token=self._with_token,
                ),
            )
        if text:
            return answer.content.decode("utf-8", errors="replace")
        try:
            return answer.json() if answer.content.strip() else {}
        except ValueError:
            raise not_kfp(self.host, path) from None
