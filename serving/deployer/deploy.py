"""What the registry says should serve, serves: archives, swaps without a lost request, and the way back when a version fails.

A swap: build the archive from the verified bundle → register it asynchronously → wait until its workers are READY → ask it for
a real prediction → make it TorchServe's default and name it in `deployed.json`, which the gateway follows → let what is in
flight finish → unregister the old version. A version that does not get that far changes nothing for anyone.

`python -m serving.deployer` is the container's command: it follows the registry until SIGTERM.
"""

import logging
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from recommender.errors import RecommenderError, ServingError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.archive import archive_name, build_archive
from serving.deployed import Deployed
from serving.deployer.processes import Running, find, known, require_free, start, tail
from serving.deployer.torchserve import NO_LOOPBACK_PROXY, TorchServe, start_torchserve, stop_torchserve

logger = logging.getLogger(__name__)
FOLLOW_S = 2.0
GRACE_S = 1.0
"""The gateway looks at `deployed.json` five times a second; afterwards only requests in flight can still ask the old version."""
PROBE = {"user_id": "probe", "probe": True, "num_campaigns": 1, "num_items": 1}
STOPPING_S = 4.0
"""A process that is being stopped is dead for at most this long before its pid file goes; one that died keeps its file."""


@dataclass(frozen=True)
class Deployer:
    """Brings TorchServe to what the registry wants."""

    settings: Settings

    @property
    def torchserve(self) -> TorchServe:
        return TorchServe(self.settings)

    @property
    def state(self) -> ServingState:
        return ServingState.of(self.settings)

    def refresh(self) -> Deployed:
        """Serve the registry's champion and canary; a version that cannot be loaded is left out and named in `failed`.

        Where the champion itself cannot be loaded, the one that serves now stays; where none serves, the newest earlier champion
        that loads takes its place.

        Raises:
            ServingError: TorchServe is away, or no version at all can be loaded.
            RegistryError: the registry has no champion.
        """
        status, before = Registry(self.settings.home).status(), Deployed.load(self.state.root)
        if status.champion is None:
            raise ServingError(f"{Home.of(self.settings).registry}: no champion yet; train one: recommender run")
        wanted = (status.champion.version, status.canary.version if status.canary else None)
        if self._stands(wanted, status.canary.share if status.canary else 0.0, before):
            return before
        failed: dict[str, str] = {}
        live = self.torchserve.versions()
        serving = [before.champion] if before.champion in live else []
        candidates = [wanted[0], *serving, *reversed(status.previous)]
        champion = self._first_that_loads(list(dict.fromkeys(c for c in candidates if c)), before, failed)
        canary = wanted[1]
        if canary is not None and (canary == champion or not self._load(canary, before, failed)):
            canary = None
        share = status.canary.share if status.canary and canary else 0.0
        after = Deployed(champion, canary, share, failed)
        self.torchserve.set_default(champion)
        after.save(self.state.root)
        logger.info("champion %s, canary %s (%.0f%%), failed %s", champion, canary, share * 100, list(failed) or "none")
        self._let_go(after)
        return after

    def follow(self, running: Sequence[Running] = ()) -> None:
        """Refresh every two seconds until one of `running` is stopped (for ever without any); a failure is logged and tried again.

        Raises:
            ServingError: one of `running` ended and nobody stopped it; names it. What it left behind is gone.
        """
        while all(one.alive() for one in running):
            try:
                self.refresh()
            except RecommenderError as error:
                logger.error("%s: %s", type(error).__name__, error)
            self.state.deployer_alive.touch()
            time.sleep(FOLLOW_S)
        deadline = time.monotonic() + STOPPING_S
        while time.monotonic() < deadline:
            if not all(one.pid_file.exists() for one in running):
                return
            time.sleep(0.05)
        ended = [one for one in running if not one.alive()]
        for one in ended:
            one.stop()
        names = " and ".join(one.pid_file.stem for one in ended)
        log = self.state.log(ended[0].pid_file.stem)
        raise ServingError(
            f"{names} ended, and nobody stopped it; the endpoint ends too. {log} ends with:\n{tail(log)}"
        )

    def _stands(self, wanted: tuple[str, str | None], share: float, before: Deployed) -> bool:
        """Whether nothing is to be done. A version that failed is tried again only when the registry wants something else."""
        asked = {version for version in wanted if version is not None}
        if not asked <= {*before.versions, *before.failed} or before.champion is None:
            return False
        if (before.champion != wanted[0] and wanted[0] not in before.failed) or set(before.failed) - asked:
            return False
        if before.canary != wanted[1] and wanted[1] not in before.failed and wanted[1] != before.champion:
            return False
        if before.canary is not None and before.canary_share != share:
            return False
        live = self.torchserve.versions()
        return all("READY" in live.get(version, []) for version in before.versions)

    def _first_that_loads(self, candidates: list[str], before: Deployed, failed: dict[str, str]) -> str:
        for version in candidates:
            if self._load(version, before, failed):
                return version
        reasons = "; ".join(f"{version}: {reason}" for version, reason in failed.items())
        raise ServingError(f"no version can be loaded: {reasons}")

    def _load(self, version: str, before: Deployed, failed: dict[str, str]) -> bool:
        """Have live workers of a version that answered a real prediction; False, with the reason in `failed`, if not."""
        if version in failed:
            return False
        server = self.torchserve
        try:
            states = server.versions().get(version)
            if states is not None and "READY" not in states and version not in before.versions:
                self._discard(version)  # what an attempt that was killed left behind
                states = None
            if states is None:
                archive = server.model_store / archive_name(version)
                build_archive(Registry(self.settings.home).bundle(version), archive, version=version)
                server.register(archive.name)
            server.wait_ready(version)
            server.predict(PROBE, version)
        except RecommenderError as error:
            if not server.is_up():
                raise
            logger.error("%s cannot serve: %s", version, error)
            failed[version] = f"{type(error).__name__}: {error}"[:2000]
            if version not in before.versions:
                self._discard(version)
            return False
        return True

    def _discard(self, version: str) -> None:
        try:
            self.torchserve.unregister(version)
        except ServingError as error:
            logger.warning("%s", error)
        (self.torchserve.model_store / archive_name(version)).unlink(missing_ok=True)

    def _let_go(self, after: Deployed) -> None:
        gone = [version for version in self.torchserve.versions() if version not in after.versions]
        if gone:
            time.sleep(GRACE_S + self.settings.serving.deadline_ms / 1e3)
        for version in gone:
            self._discard(version)


@dataclass(frozen=True)
class Deployment:
    """A running endpoint of this machine; ends with its block."""

    settings: Settings

    @property
    def url(self) -> str:
        host = self.settings.serving.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{self.settings.serving.port}"

    def refresh(self) -> Deployed:
        """Take up what the registry wants now, under requests, without losing one."""
        return Deployer(self.settings).refresh()

    def follow(self) -> None:
        """Follow the registry until the endpoint is stopped (by a signal to this process, or `stop` from another one).

        Raises:
            ServingError: gateway or TorchServe ended by itself; names it.
        """
        state = ServingState.of(self.settings)
        gateway, torchserve = known(state.pid_file("gateway")), known(state.pid_file("torchserve"))
        if gateway is not None and torchserve is not None:
            Deployer(self.settings).follow([gateway, torchserve])

    def stop(self) -> None:
        stop(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(settings: Settings) -> Deployment:
    """Start TorchServe and the gateway for the registry's champion and canary, and wait until a real prediction works.

    Raises:
        ServingError: a port is busy (named), no champion, nothing loads, or the gateway did not become ready; nothing is left running.
    """
    settings = config.absolute(settings)
    state = ServingState.of(settings)
    if find(state.pid_file("gateway")) is not None:
        raise ServingError(f"the endpoint runs already ({state.pid_file('gateway')}); stop it first: recommender stop")
    if Registry(settings.home).champion() is None:
        raise ServingError(f"{Home.of(settings).registry}: no champion yet; train one: recommender run")
    require_free(settings.serving.host, settings.serving.port, "the gateway", "port")
    state.deployed.unlink(missing_ok=True)
    start_torchserve(settings)
    try:
        Deployer(settings).refresh()
        start_gateway(settings)
        wait_ready(settings)
    except BaseException:
        stop(settings)
        raise
    return Deployment(settings)


def start_gateway(settings: Settings) -> Running:
    """Start the gateway in the background; it follows catalogue and deployment by itself."""
    state = ServingState.of(settings)
    return start(
        [sys.executable, "-m", "serving.gateway"],
        environment={**os.environ, **config.export(settings), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        log=state.log("gateway"),
        pid_file=state.pid_file("gateway"),
        folder=Path.cwd(),
    )


def wait_ready(settings: Settings, *, seconds: float = 60.0) -> None:
    """Wait until the gateway says that a real prediction works.

    Raises:
        ServingError: it ended, or time ran out; holds what keeps it from being ready.
    """
    deployment, deadline, said = Deployment(settings), time.monotonic() + seconds, "no answer"
    state = ServingState.of(settings)
    log = state.log("gateway")
    while time.monotonic() < deadline:
        try:
            with NO_LOOPBACK_PROXY.open(f"{deployment.url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            with error:
                said = error.read()[:500].decode(errors="replace")
        except OSError as error:
            said = str(error)
        if find(state.pid_file("gateway")) is None:
            raise ServingError(f"the gateway ended while it started. {log} ends with:\n{tail(log)}")
        time.sleep(0.1)
    raise ServingError(
        f"the gateway did not become ready within {seconds:.0f} s: {said}. {log} ends with:\n{tail(log)}"
    )


def stop(settings: Settings) -> bool:
    """Stop the endpoint of this state folder, from whichever shell it was started; True if anything ran.

    The gateway goes first and finishes what is in flight, TorchServe after it.
    """
    settings = config.absolute(settings)
    gateway = find(ServingState.of(settings).pid_file("gateway"))
    if gateway is not None:
        gateway.stop(patience_s=20)
    return stop_torchserve(settings) or gateway is not None


def main() -> None:
    """Follow the registry until SIGTERM (the deployer container of a serving pod)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = config.absolute(config.of_environment())
    state = ServingState.of(settings)
    state.root.mkdir(parents=True, exist_ok=True)
    state.deployer_alive.touch()
    Deployer(settings).follow()
