"""TorchServe as the gateway sees it: predictions over HTTP, the version in the path."""

from collections.abc import Callable

import orjson

from serving import wire
from serving.archive import MODEL_NAME
from serving.engines.contract import Reply
from serving.engines.http import Client
from serving.request import PROBE


class TorchServeScoring:
    """One TorchServe on loopback."""

    def __init__(self, port: int, arrived_s: Callable[[], float]) -> None:
        self._client = Client("127.0.0.1", port, arrived_s)

    async def score(self, version: str, body: bytes) -> Reply:
        """See `Scoring`. Cancelling it closes the connection."""
        return await self._client.post(_path(version), body, content_type=wire.CONTENT_TYPE)

    async def probe(self, version: str) -> int:
        """See `Scoring`."""
        return (await self._client.post(_path(version), orjson.dumps(PROBE))).status

    async def follow(self) -> None:
        """Nothing: the deployer speaks to TorchServe itself."""

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()


def _path(version: str) -> str:
    return f"/predictions/{MODEL_NAME}/{version}"
