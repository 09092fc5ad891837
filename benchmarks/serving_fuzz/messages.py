"""Good requests to gateway and TorchServe, from which the wrong ones are made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from serving import wire
from serving.archive import MODEL_NAME
from serving.request import RecommendationRequest, ScoringRequest

GATEWAY, TORCHSERVE = "gateway", "torchserve"
JSON = b"application/json"
PRIVATE = "gateway's format"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A request in parts."""

    target: str
    """`gateway` or `torchserve`."""
    kind: str
    """What it is, for the report."""
    method: bytes = b"POST"
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    sized: bool = True
    """Whether a Content-Length is added."""

    @property
    def is_private(self) -> bool:
        """Whether the body is in the gateway's own format."""
        return self.kind.startswith(PRIVATE)

    def head(self) -> bytes:
        """Request line and headers, with the empty line behind them."""
        lines = [b" ".join((self.method, self.path, self.version))]
        lines += [name + b": " + value for name, value in self.headers]
        if self.sized:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def written(self) -> bytes:
        """The request as it goes over a connection."""
        return self.head() + self.body

    def with_headers(self, *headers: tuple[bytes, bytes]) -> "Message":
        """The same with further headers."""
        return replace(self, headers=(*self.headers, *headers))

    def without(self, name: bytes) -> "Message":
        """The same without a header."""
        kept = tuple(one for one in self.headers if one[0].lower() != name.lower())
        return replace(self, headers=kept)


def messages(
    *,
    users: Sequence[str],
    campaigns: Sequence[str],
    request_id: str,
    as_of_us: int,
    token: str | None,
    key: bytes,
    packed: bytes,
) -> list[Message]:
    """Good requests of every kind that gateway and TorchServe take.

    Args:
        users: Users whom the store knows.
        campaigns: Live campaigns.
        request_id: A decision that was made.
        as_of_us: A moment at which campaigns are live, µs since 1970.
        token: Of the gateway. None: it has none.
        key: Of the gateway's own format.
        packed: The first user's features.
    """
    rich: dict[str, Any] = {
        "user_id": users[0],
        "campaign_ids": list(campaigns),
        "exclude_campaign_ids": [campaigns[0]],
        "num_campaigns": 3,
        "num_items": 2,
        "explain": True,
        "context": {"page": "home", "price": 1.5, "rank": 3, "new": True},
    }
    plain = {"user_id": users[1]}
    direct = {**rich, "as_of": "2017-12-31T00:00:00-05:00", "return_features": True, "probe": False}
    found = [
        _gateway("recommendations", b"/v1/recommendations", rich, token),
        _gateway("recommendations", b"/v1/recommendations", plain, token),
        _gateway("exposures", b"/v1/exposures", {"request_id": request_id}, token),
        _gateway("exposures", b"/v1/exposures", {"request_id": request_id, "campaign_ids": list(campaigns[:1])}, token),
        _torchserve("JSON", f"/predictions/{MODEL_NAME}", direct),
        _torchserve("JSON", f"/predictions/{MODEL_NAME}", {**plain, "probe": True}),
        _torchserve("KServe v1", f"/v1/models/{MODEL_NAME}:predict", {"instances": [rich, plain]}),
        _torchserve("OIP v2", f"/v2/models/{MODEL_NAME}/infer", _tensor(rich, plain)),
    ]
    found += [replace(found[0], kind=path, method=b"GET", path=path.encode(), body=b"") for path in PROBED]
    asked = ScoringRequest(request=RecommendationRequest(**rich), as_of_us=as_of_us)
    for kind, known in ((PRIVATE, key), (f"{PRIVATE}, without the key", bytes(wire.KEY_BYTES))):
        body = wire.encode(asked, packed, known)
        plain_body = json.dumps(plain).encode()
        for of_kind, content in ((kind, body), (f"{kind}, batch", wire.encode_batch([body, plain_body, body]))):
            found.append(
                Message(
                    target=TORCHSERVE,
                    kind=of_kind,
                    path=f"/predictions/{MODEL_NAME}".encode(),
                    headers=((b"Host", b"torchserve"), (b"Content-Type", wire.CONTENT_TYPE)),
                    body=content,
                )
            )
    return found


PROBED = ("/healthz", "/readyz", "/openapi.json")
"""Paths of the gateway that take no body."""


def _gateway(kind: str, path: bytes, document: dict[str, Any], token: str | None) -> Message:
    headers = [(b"Host", b"gateway"), (b"Content-Type", JSON), (b"X-Request-ID", b"fuzz-1")]
    if token is not None:
        headers.append((b"Authorization", b"Bearer " + token.encode()))
    body = json.dumps(document).encode()
    return Message(target=GATEWAY, kind=kind, path=path, headers=tuple(headers), body=body)


def _torchserve(kind: str, path: str, document: dict[str, Any]) -> Message:
    headers = ((b"Host", b"torchserve"), (b"Content-Type", JSON))
    return Message(
        target=TORCHSERVE, kind=kind, path=path.encode(), headers=headers, body=json.dumps(document).encode()
    )


def _tensor(*documents: dict[str, Any]) -> dict[str, Any]:
    data = [json.dumps(document) for document in documents]
    return {"inputs": [{"name": "requests", "datatype": "BYTES", "shape": [len(data)], "data": data}]}
