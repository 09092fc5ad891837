"""The deployer's half: copies a version's bundle into the replica's state, and waits for the gateway to load it."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text
from serving.archive import copy_bundle
from serving.engines.in_process.scoring import Loaded, Wanted, read_loaded, read_wanted

ALIVE_S = 10.0
"""Age of the gateway's last sign of life, which it gives every second, up to which it is taken to run. By hand: a
machine that swaps lets a process wait for seconds."""
READY_S = 90.0
"""Seconds for workers to load, as for TorchServe's. It takes 2 to 5 s on two cores. A busy machine needs more."""
READY = "READY"
POLL_S = 0.05
"""Seconds between looks while workers load. Chosen by hand."""


@dataclass(frozen=True)
class InProcessLoading:
    """The versions that the gateway of these settings holds."""

    settings: Settings

    @property
    def _state(self) -> ServingState:
        return ServingState.of(self.settings)

    def is_up(self) -> bool:
        """See `Loading`: whether the gateway runs."""
        try:
            return time.time() - self._state.loaded.stat().st_mtime < ALIVE_S
        except FileNotFoundError:
            return False

    def versions(self) -> dict[str, list[str]]:
        """See `Loading`."""
        said = read_loaded(self._state) if self.is_up() else {}
        wanted = read_wanted(self._state)
        return {version: _states(said.get(version), one.asked) for version, one in wanted.items()}

    def register(self, version: str, bundle: Path) -> None:
        """See `Loading`."""
        folder = copy_bundle(bundle, self._folder(version))
        self._want({**read_wanted(self._state), version: Wanted(time.time_ns(), str(folder))})

    def wait_ready(self, version: str) -> None:
        """See `Loading`."""
        deadline = time.monotonic() + READY_S
        while True:
            wanted, now = read_wanted(self._state).get(version), read_loaded(self._state).get(version)
            if wanted is None:
                raise ServingError(f"{version} was not registered")
            if now is not None and now.asked == wanted.asked:
                if now.failed:
                    raise ServingError(f"{version} cannot be loaded: {now.problem}")
                if 0 < now.of <= now.ready:
                    return
            if not self.is_up():
                raise ServingError(f"{version}: the gateway ended before it had loaded it")
            if time.monotonic() > deadline:
                raise ServingError(f"{version}: not loaded within {READY_S:.0f} s; the gateway says {now or 'nothing'}")
            time.sleep(POLL_S)

    def check(self, version: str) -> None:
        """See `Loading`: each worker makes real predictions before it says that it is ready."""
        self.set_default(version)

    def set_default(self, version: str) -> None:
        """See `Loading`: the gateway itself names the version of every request."""
        states = self.versions().get(version, [])
        if READY not in states:
            raise ServingError(f"{version} has no worker that is ready ({states})")

    def unregister(self, version: str) -> None:
        """See `Loading`."""
        self._want({known: wanted for known, wanted in read_wanted(self._state).items() if known != version})
        shutil.rmtree(self._folder(version), ignore_errors=True)

    def _folder(self, version: str) -> Path:
        return self._state.model_store / version

    def _want(self, wanted: dict[str, Wanted]) -> None:
        document = {version: asdict(one) for version, one in wanted.items()}
        write_text(self._state.wanted, json.dumps(document, indent=1))


def _states(said: Loaded | None, asked: int) -> list[str]:
    if said is None or said.asked != asked:
        return ["LOADING"]
    return ["FAILED"] if said.failed else [READY] * said.ready + ["LOADING"] * (said.of - said.ready)
