"""Deployer: keeps the scoring engine in sync with the registry, swapping versions without losing a request.

A swap: hand the verified bundle to the engine, wait until its workers are READY, ask it for a real prediction, make it
the default and name it in `deployed.json` (which the gateway follows), let requests in flight finish. The champion that
was replaced stays loaded for a rollback, and versions that nobody needs are unregistered. A version that does not get
that far changes nothing for anyone.

`python -m serving.deployer` is the container's command: it follows the registry until SIGTERM.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from recommender import logs
from recommender.errors import RecommenderError, ServingError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.deployed import Deployed
from serving.deployer.engines import loading
from serving.deployer.processes import Running, known, last_lines
from serving.deployer.sick_canary import end_sick_canary
from serving.deployer.wanted import Wanted
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
WAITING = "waiting for a first champion: run the training pipeline"
MAX_REASON = 2_000
"""Characters of the reason why a version failed, which /readyz shows: enough for the end of a worker's log."""


class Exited(ServingError):
    """Processes of the endpoint exited unexpectedly. Names them, with the end of the first one's log."""

    def __init__(self, ended: Sequence[Running], end_of_log: str) -> None:
        self.names = [one.name for one in ended]
        super().__init__(f"{' and '.join(self.names)} exited unexpectedly. {end_of_log}")


class NoChampion(ServingError):
    """The registry has no champion yet, so nothing can serve. Names the registry."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(f"{Home.of(settings).registry}: no champion yet; train one: recommender run")


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

    def refresh(self, *, with_former: bool = True) -> Deployed:
        """Serve the registry's champion and canary, and keep the champion before them loaded.

        A version that cannot be loaded is left out and named in `failed`.

        When the champion itself cannot be loaded, the one that serves now stays. When none serves, the newest earlier
        champion that loads takes its place.

        Args:
            with_former: False: a former champion that is not loaded yet can wait for the next refresh.

        Raises:
            NoChampion: The registry has no champion.
            ServingError: The engine is unavailable, or no version at all can be loaded.
        """
        began_s = time.monotonic()
        status, before = Registry(self.settings.home).status(), Deployed.load(self.state.root)
        if status.champion is None:
            raise NoChampion(self.settings)
        wanted = Wanted.of(status, keep_former=self.settings.isolation.keep_former)
        live = self.engine.versions()
        if wanted.is_deployed(before, live):
            return before
        failed: dict[str, str] = {}
        serving = [before.champion] if before.champion in live else []
        candidates = [wanted.champion, *serving, *reversed(status.previous)]
        champion = self._first_that_loads(list(dict.fromkeys(c for c in candidates if c)), before, failed)
        canary = wanted.canary
        if canary is not None and (canary == champion or not self._load(canary, before, failed)):
            canary = None
        former = wanted.former if wanted.former not in (champion, canary) else None
        waits = former is not None and "READY" not in live.get(former, [])
        after = Deployed(
            champion=champion,
            canary=canary,
            canary_share=wanted.share if canary else 0.0,
            former=None if waits else former,
            failed=failed,
        )
        self.engine.set_default(champion)
        after.save(self.state.root)
        log.info(
            "deployed",
            champion=champion,
            canary=canary,
            canary_share=after.canary_share,
            former=after.former,
            failed=list(failed),
            seconds=round(time.monotonic() - began_s, 3),
        )
        self._unload_others(after)
        return self._with_former(former, after) if waits and with_former else after

    def _with_former(self, former: str | None, deployed: Deployed) -> Deployed:
        """Load the former champion, once everything that answers is in place."""
        if former is None:
            return deployed
        failed = dict(deployed.failed)
        loads = self._load(former, deployed, failed)
        after = replace(deployed, former=former if loads else None, failed=failed)
        after.save(self.state.root)
        return after

    def follow(self, running: Sequence[Running] = ()) -> None:
        """Refresh again and again until one of `running` is stopped.

        A failure is tried again. It is logged when it begins, changes or ends, not at every look. Without any
        `running` this does not return.

        Raises:
            Exited: One of `running` exited unexpectedly. What was left of it was stopped.
        """
        logged = ""
        while all(one.alive() for one in running):
            problem = self._look()
            if problem != logged:
                self._log(problem)
                logged = problem
            self.state.deployer_alive.touch()
            time.sleep(FOLLOW_S)
        if not all(known(one.pid_file) == one for one in running):
            return
        deadline = time.monotonic() + STOPPING_S
        # `stop` ends them in this order, so while the first one runs, another one has died by itself.
        while time.monotonic() < deadline and not running[0].alive():
            if not all(known(one.pid_file) == one for one in running):
                return
            time.sleep(0.05)  # chosen by hand: small beside STOPPING_S
        ended = [one for one in running if not one.alive()]
        for one in ended:
            one.stop()
        raise Exited(ended, last_lines(self.state, ended[0].name))

    def _look(self) -> str:
        """Refresh once, and return what stands between the registry and what serves. Empty: nothing."""
        try:
            end_sick_canary(self.settings)
            self.refresh()
        except NoChampion:
            return WAITING
        except RecommenderError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _log(self, problem: str) -> None:
        if problem == WAITING:
            log.info(WAITING, registry=str(Home.of(self.settings).registry))
        elif problem:
            log.error("refresh failed", problem=problem)
        else:
            log.info("serves what the registry names")

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
            if states is not None and "READY" not in states and version not in before.loaded:
                self._unload(version)  # left behind by an attempt that was killed
                states = None
            if states is None:
                engine.register(version, Registry(self.settings.home).bundle(version))
            # One that is loaded need not wait for a worker that is just being replaced.
            if states is None or "READY" not in states:
                engine.wait_ready(version)
            engine.check(version)
        except RecommenderError as error:
            if not engine.is_up():
                raise
            log.error("version cannot serve", model_version=version, problem=f"{type(error).__name__}: {error}")
            failed[version] = f"{type(error).__name__}: {error}"[:MAX_REASON]
            if version not in before.loaded:
                self._unload(version)
            return False
        return True

    def _unload(self, version: str) -> None:
        try:
            self.engine.unregister(version)
        except ServingError as error:
            log.warning("version not unregistered", model_version=version, problem=str(error))

    def _unload_others(self, after: Deployed) -> None:
        gone = [version for version in self.engine.versions() if version not in after.loaded]
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
