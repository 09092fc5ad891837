"""Blocking calls to a model server, for the deployer, which makes a few of them a minute."""

import urllib.error
import urllib.request

from recommender.errors import LONGEST_ANSWER, ServingError

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses without the proxy that the environment may name: a model server is on this machine or in the
cluster."""


def call(method: str, url: str, content: bytes | None = None, *, seconds: float) -> tuple[int, bytes]:
    """Return status and body of an answer, whatever the status. `content` is JSON.

    Raises:
        ServingError: There is no answer. Names method and address.
    """
    headers = {"Content-Type": "application/json"} if content is not None else {}
    request = urllib.request.Request(url, data=content, method=method, headers=headers)
    try:
        with DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError as error:
        raise ServingError(f"{method} {url}: no answer ({error})") from None


def described(status: int, body: bytes) -> str:
    """Status and body as part of an error message."""
    return f"{status}: {body[:LONGEST_ANSWER].decode(errors='replace')}"
