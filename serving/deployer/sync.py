"""Deployer: keeps the scoring engine in sync with the registry, swapping versions without losing a request.

A swap: hand the verified bundle to the engine, wait until its workers are READY, ask it for a real prediction, make it
the default and name it in `deployed.json` (which the gateway follows), let
requests in flight finish, unregister the old version. A version that does not get that far changes nothing for anyone.

`python -m serving.deployer` is the container's command: it follows the registry until SIGTERM.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from recommender import logs
from recommender.errors import RecommenderError, ServingError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.deployed import Deployed
from serving.deployer.engines import loading
from serving.deployer.processes import Running, last_lines
from serving.engines.contract import Loading

log = logs.get(__name__)
FOLLOW_S = 2.0
"""Seconds between looks at the registry: promotions are rare, and a look asks TorchServe for its versions. By
hand."""
GRACE_S = 1.0
"""The gateway reads `deployed.json` five times a second. After this only requests in flight ask the old version."""
STOPPING_S = 4.0
"""A stopped process is dead for at most this long before its pid file goes: `processes.STRAGGLERS_S` and as much to
spare. One that died by itself keeps it."""
MAX_REASON = 2_000
"""Characters of the reason why a version failed, which /readyz shows: enough for the end of a worker's log."""


@dataclass(frozen=True)
class Deployer:
    """Keeps the engine in sync with the versions that the registry names."""

    settings: Settings

    @property
    def engine(self) -> Loading:
        """The engine of these settings."""
        return loading(self.settings)

    @property
    def state(self) -> ServingState:
        """The private files of this replica."""
        return ServingState.of(self.settings)

    def refresh(self) -> Deployed:
        """Serve the registry's champion and canary.

        A version that cannot be loaded is left out and named in `failed`.

        When the champion itself cannot be loaded, the one that serves now stays. When none serves, the newest earlier
        champion that loads takes its place.

        Raises:
            ServingError: The engine is unavailable, or no version at all can be loaded.
            RegistryError: The registry has no champion.
        """
        began_s = time.monotonic()
        status, before = Registry(self.settings.home).status(), Deployed.load(self.state.root)
        if status.champion is None:
            raise ServingError(f"{Home.of(self.settings).registry}: no champion yet; train one: recommender run")
        wanted = (status.champion.version, status.canary.version if status.canary else None)
        share = status.canary.share if status.canary else 0.0
        if self._is_deployed(wanted, share, before):
            return before
        failed: dict[str, str] = {}
        live = self.engine.versions()
        serving = [before.champion] if before.champion in live else []
        candidates = [wanted[0], *serving, *reversed(status.previous)]
        champion = self._first_that_loads(list(dict.fromkeys(c for c in candidates if c)), before, failed)
        canary = wanted[1]
        if canary is not None and (canary == champion or not self._load(canary, before, failed)):
            canary = None
        after = Deployed(champion, canary, share if canary else 0.0, failed)
        self.engine.set_default(champion)
        after.save(self.state.root)
        log.info(
            "deployed",
            champion=champion,
            canary=canary,
            canary_share=after.canary_share,
            failed=list(failed),
            seconds=round(time.monotonic() - began_s, 3),
        )
        self._unload_others(after)
        return after

    def follow(self, running: Sequence[Running] = ()) -> None:
        """Refresh again and again until one of `running` is stopped.

        A failure is logged and tried again. Without any `running` this does not return.

        Raises:
            ServingError: One of `running` exited unexpectedly. Names it. Its remaining processes were stopped.
        """
        while all(one.alive() for one in running):
            try:
                self.refresh()
            except RecommenderError as error:
                log.error("refresh failed", problem=f"{type(error).__name__}: {error}")
            self.state.deployer_alive.touch()
            time.sleep(FOLLOW_S)
        deadline = time.monotonic() + STOPPING_S
        while time.monotonic() < deadline:
            if not all(one.pid_file.exists() for one in running):
                return
            time.sleep(0.05)  # chosen by hand: small beside STOPPING_S
        ended = [one for one in running if not one.alive()]
        for one in ended:
            one.stop()
        names = " and ".join(one.name for one in ended)
        raise ServingError(
            f"{names} exited unexpectedly; shutting the endpoint down. {last_lines(self.state, ended[0].name)}"
        )

    def _is_deployed(self, wanted: tuple[str, str | None], share: float, before: Deployed) -> bool:
        """Whether the wanted versions are already deployed.

        A version that failed is not tried again before the registry wants another one.
        """
        asked = {version for version in wanted if version is not None}
        if not asked <= {*before.versions, *before.failed} or before.champion is None:
            return False
        if (before.champion != wanted[0] and wanted[0] not in before.failed) or set(before.failed) - asked:
            return False
        if before.canary != wanted[1] and wanted[1] not in before.failed and wanted[1] != before.champion:
            return False
        if before.canary is not None and before.canary_share != share:
            return False
        live = self.engine.versions()
        return all("READY" in live.get(version, []) for version in before.versions)

    def _first_that_loads(self, candidates: list[str], before: Deployed, failed: dict[str, str]) -> str:
        for version in candidates:
            if self._load(version, before, failed):
                return version
        reasons = "; ".join(f"{version}: {reason}" for version, reason in failed.items())
        raise ServingError(f"no version can be loaded: {reasons}")

    def _load(self, version: str, before: Deployed, failed: dict[str, str]) -> bool:
        """Load a version and tell whether it answers a real prediction, with the reason in `failed` if it does not."""
        if version in failed:
            return False
        engine = self.engine
        try:
            states = engine.versions().get(version)
            if states is not None and "READY" not in states and version not in before.versions:
                self._unload(version)  # left behind by an attempt that was killed
                states = None
            if states is None:
                engine.register(version, Registry(self.settings.home).bundle(version))
            engine.wait_ready(version)
            engine.check(version)
        except RecommenderError as error:
            if not engine.is_up():
                raise
            log.error("version cannot serve", model_version=version, problem=f"{type(error).__name__}: {error}")
            failed[version] = f"{type(error).__name__}: {error}"[:MAX_REASON]
            if version not in before.versions:
                self._unload(version)
            return False
        return True

    def _unload(self, version: str) -> None:
        try:
            self.engine.unregister(version)
        except ServingError as error:
            log.warning("version not unregistered", model_version=version, problem=str(error))

    def _unload_others(self, after: Deployed) -> None:
        gone = [version for version in self.engine.versions() if version not in after.versions]
        if gone:
            time.sleep(GRACE_S + self.settings.serving.deadline_ms / 1e3)
        for version in gone:
            self._unload(version)


def main() -> None:
    """Follow the registry until SIGTERM (the deployer container of a serving pod)."""
    logs.configure(process="deployer")
    settings = config.absolute(config.of_environment())
    state = ServingState.of(settings)
    state.root.mkdir(parents=True, exist_ok=True)
    state.deployer_alive.touch()
    Deployer(settings).follow()
