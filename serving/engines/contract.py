"""The contract of a scoring engine: what loads versions, and what scores one user by one of them.

An engine has two halves, because two processes use it. The deployer loads and unloads versions and may wait for
seconds (`Loading`). The gateway asks for scores on its event loop within milliseconds (`Scoring`). All engines run the
same code on a request's body (`serving.worker.bodies.respond`), so they give the same answers. Where requests have to
wait, the engine lets them leave together (`serving.engines.batches`).
"""

from pathlib import Path
from typing import NamedTuple, Protocol


class EngineError(Exception):
    """The engine is unavailable, lost the worker that had the request, or its answer cannot be read."""

    def __init__(self, problem: str, *, counts: bool = True) -> None:
        super().__init__(problem)
        self.counts = counts
        """Whether it is a failure of its own: requests that shared a body fail with one failure of their version."""


class Reply(NamedTuple):
    """An engine's answer to one request."""

    status: int
    """As in HTTP: 200 is an answer, 404 an unknown version."""
    body: bytes
    """JSON."""
    arrived_s: float
    """When it arrived, on the clock of `time.perf_counter`. Its reader runs later, after what else the loop does."""


class Scoring(Protocol):
    """The gateway's half."""

    async def score(self, version: str, body: bytes) -> Reply:
        """The answer of a version to a body of `serving.wire`, for as long as the caller lets it take.

        A caller whose deadline passes cancels the call. The engine then computes no more than what has begun.

        Raises:
            EngineError: There is no answer. States what happened.
        """

    async def probe(self, version: str) -> int:
        """The status with which a version answers a real prediction for a user of whom nothing is known.

        Raises:
            EngineError: There is no answer. States what happened.
        """

    async def follow(self) -> None:
        """Do what the deployer asked for since the last call. Awaited a few times a second; files in a thread."""

    def close(self) -> None:
        """Release connections and processes."""


class Loading(Protocol):
    """The deployer's half."""

    def is_up(self) -> bool:
        """Whether the engine answers at all. It may do so without any version."""

    def versions(self) -> dict[str, list[str]]:
        """Versions that the engine holds, each with the states of its workers: "READY" for each that can answer."""

    def register(self, version: str, bundle: Path) -> None:
        """Begin to load a version that the engine does not hold.

        Raises:
            CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
            ServingError: The engine refuses the version. States the reason.
        """

    def wait_ready(self, version: str) -> None:
        """Wait until the version is loaded.

        Raises:
            ServingError: It cannot be loaded, or time ran out. States the reason.
        """

    def check(self, version: str) -> None:
        """Ask for a real prediction.

        Raises:
            ServingError: The version does not answer one; holds what it answers.
        """

    def set_default(self, version: str) -> None:
        """Let the version answer requests that name none, where the engine takes such requests.

        Raises:
            ServingError: The version cannot answer.
        """

    def unregister(self, version: str) -> None:
        """Unload a version, and remove what `register` wrote. One that the engine does not hold is no error.

        Raises:
            ServingError: The engine keeps the version.
        """
