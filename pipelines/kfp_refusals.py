"""What to do when the KFP API server refuses a request: one sentence from its status and its answer."""

import json
import re
from dataclasses import dataclass
from typing import Any

from recommender.errors import LONGEST_ANSWER, EndpointError

TOKEN_VARIABLE = "KFP_TOKEN"
AUDIENCE = "pipelines.kubeflow.org"
"""What a token must be made for: KFP's API server asks Kubernetes to review it for this audience."""
RIGHT = re.compile(r"User '(?P<user>[^']*)' is not authorized.*?ResourceAttributes\{(?P<attributes>[^}]*)\}", re.DOTALL)
"""How the API server writes the right that a user lacks: `…{Namespace:other,Verb:list,…,Resource:experiments,…}`."""


class _EndpointAway(EndpointError):
    """The endpoint cannot be reached now, or answers 5xx. The same request may hold a moment later."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A request that the API server refused."""

    asked: str
    """What was asked, as a person says it: "start the run"."""
    status: int
    reason: str
    body: str
    namespace: str
    """Of the request, for the command that makes a token."""
    with_token: bool


def away(host: str, error: Exception) -> EndpointError:
    """The error for an endpoint that gives no answer."""
    return _EndpointAway(
        f"{host} cannot be reached: {error}. Is the address right, and does a port-forward still run? "
        "`kubectl -n kubeflow port-forward svc/ml-pipeline 8888` makes http://127.0.0.1:8888"
    )


def not_kfp(host: str, path: str) -> EndpointError:
    """The error for an answer that is not KFP's."""
    return EndpointError(
        f"{host}{path} is not answered by KFP's API server but by a login page or another service. Name the API "
        "server's address, such as http://127.0.0.1:8888 after `kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"
    )


def may_hold_later(error: EndpointError) -> bool:
    """Whether the same request may succeed a moment later: the endpoint was away, or answered 5xx."""
    return isinstance(error, _EndpointAway)


def refused(host: str, refusal: Refusal) -> EndpointError:
    """The error for a refusal, with its remedy. Never holds the token."""
    said = _message(refusal.body) or refusal.reason
    start = f"{host} refused to {refusal.asked}: {refusal.status}"
    if refusal.status == 401:
        return EndpointError(f"{start}: {_of_token(refusal)}")
    # An upload without the right is answered 400, with the same words.
    if refusal.status == 403 or RIGHT.search(said):
        return EndpointError(f"{start}: {_of_right(said)}")
    if refusal.status >= 500:
        return _EndpointAway(f"{start}: {said[:LONGEST_ANSWER]}")
    if 300 <= refusal.status < 400 or (refusal.status == 404 and refusal.asked == "see its state"):
        return not_kfp(host, "")
    return EndpointError(f"{start}: {said[:LONGEST_ANSWER]}")


def _of_token(refusal: Refusal) -> str:
    seen = (
        f"the token in {TOKEN_VARIABLE} is wrong, expired or made for another audience"
        if refusal.with_token
        else f"this Kubeflow asks who you are, and {TOKEN_VARIABLE} is not set"
    )
    return (
        f"{seen}. Make one: export {TOKEN_VARIABLE}=$(kubectl -n {refusal.namespace} create token default-editor "
        f"--audience {AUDIENCE} --duration 8h)"
    )


def _of_right(said: str) -> str:
    found = RIGHT.search(said)
    if found is None:
        return said[:LONGEST_ANSWER]
    facts = dict(pair.split(":", 1) for pair in found["attributes"].split(",") if ":" in pair)
    user, namespace = found["user"], facts.get("Namespace", "")
    verb, resource = facts.get("Verb", ""), f"{facts.get('Resource', '')}.{facts.get('Group', '')}"
    return (
        f"{user} lacks the right to {verb} {resource} in the namespace {namespace!r}. Name your own namespace "
        f"(--namespace), or let the owner of {namespace!r} give {user} the ClusterRole kubeflow-edit there. "
        f"To see it: kubectl auth can-i {verb} {resource} -n {namespace} --as {user}"
    )


def _message(body: str) -> str:
    """The message in an error's body: the API server answers JSON, a proxy before it a page."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return " ".join(body.split())
    if not isinstance(answer, dict):
        return body
    return str(answer.get("message") or answer.get("error_message") or answer.get("error") or body)
