"""The gateway's half: `POST /v2/models/<name>/infer`, the body of `serving.wire` as the one element of a BYTES tensor.

The element is base64, because JSON cannot hold bytes and not every server takes the binary extension.
"""

import base64
from collections.abc import Callable
from typing import Any

import orjson

from serving.engines.contract import EngineError, Reply
from serving.engines.http import Client
from serving.engines.oip.addresses import Addresses
from serving.request import PROBE
from serving.worker.tensors import BASE64


class OipScoring:
    """One server, or one for each version."""

    def __init__(self, addresses: Addresses, arrived_s: Callable[[], float]) -> None:
        self._addresses, self._arrived_s = addresses, arrived_s
        self._clients: dict[tuple[str, int], Client] = {}

    async def score(self, version: str, body: bytes) -> Reply:
        """See `Scoring`. Cancelling it closes the connection."""
        return await self._infer(version, base64.b64encode(body).decode(), {"content_type": BASE64})

    async def probe(self, version: str) -> int:
        """See `Scoring`."""
        return (await self._infer(version, orjson.dumps(PROBE).decode(), None)).status

    async def follow(self) -> None:
        """Nothing: the deployer speaks to the server itself."""

    def close(self) -> None:
        """Close the kept connections."""
        for client in self._clients.values():
            client.close()

    async def _infer(self, version: str, element: str, parameters: dict[str, str] | None) -> Reply:
        tensor: dict[str, Any] = {"name": "requests", "datatype": "BYTES", "shape": [1], "data": [element]}
        if parameters is not None:
            tensor["parameters"] = parameters
        host, port, prefix = self._addresses.place(version)
        client = self._clients.get((host, port))
        if client is None:
            client = self._clients[host, port] = Client(host, port, self._arrived_s)
        path = prefix + self._addresses.path(version, "infer")
        reply = await client.post(path, orjson.dumps({"inputs": [tensor]}))
        return reply if reply.status != 200 else _taken_out(reply)


def _taken_out(reply: Reply) -> Reply:
    """The one answer of a batch of one, with its own status.

    Raises:
        EngineError: The tensors are not the ones that our model answers with.
    """
    try:
        outputs = {one["name"]: one["data"] for one in orjson.loads(reply.body)["outputs"]}
        (answer,), (status,) = outputs["answers"], outputs["statuses"]
        return Reply(int(status), answer.encode(), reply.arrived_s)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"the answer has no tensors `answers` and `statuses` of one element ({error!r})") from None
