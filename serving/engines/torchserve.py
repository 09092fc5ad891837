"""TorchServe as the gateway sees it: predictions over HTTP, the version in the path."""

from collections.abc import Callable
from functools import partial

import orjson

from serving import wire
from serving.archive import MODEL_NAME
from serving.engines.batches import Lane, Pace
from serving.engines.contract import Reply
from serving.engines.http import Client
from serving.request import PROBE


class TorchServeScoring:
    """One TorchServe on loopback."""

    def __init__(self, port: int, arrived_s: Callable[[], float], *, num_workers: int) -> None:
        self._client = Client("127.0.0.1", port, arrived_s)
        self._num_workers = num_workers
        self._lanes: dict[str, Lane] = {}

    async def score(self, version: str, body: bytes) -> Reply:
        """See `Scoring`. Cancelling it closes the connection, unless others wait for the same body."""
        lane = self._lanes.get(version)
        if lane is None:
            self._lanes = {known: one for known, one in self._lanes.items() if not one.is_idle}
            lane = self._lanes[version] = Lane(partial(self._post, _path(version)), Pace(self._num_workers))
        return await lane.score(body)

    async def _post(self, path: str, body: bytes) -> Reply:
        return await self._client.post(path, body, content_type=wire.CONTENT_TYPE)

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
