"""Follows the registry for `recommender serve`, and starts TorchServe again when its Java process dies.

The gateway goes on answering meanwhile: with the popular list, and with the model again once it is loaded.
"""

import time

from recommender import logs
from recommender.errors import ServingError
from recommender.settings import Settings
from serving.deployer import torchserve
from serving.deployer.processes import Running, known
from serving.deployer.sync import Deployer, Exited

log = logs.get(__name__)
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each start in a row. The last one repeats. By hand: what dies at once is not started all the time."""
LASTING_S = 120.0
"""A TorchServe that has run for so long begins the row again. By hand: longer than loading all versions takes."""
LOOK_S = 0.1


def follow(settings: Settings, gateway: Running, server: Running) -> None:
    """Follow the registry until the endpoint is stopped.

    Raises:
        ServingError: The gateway exited unexpectedly. Names it.
    """
    starts = 0
    while True:
        began_s = time.monotonic()
        try:
            Deployer(settings).follow([gateway, server])
            return
        except Exited as error:
            if error.names != [server.name]:
                raise
            log.error("TorchServe exited and is started again", problem=str(error))
        starts = 0 if time.monotonic() - began_s > LASTING_S else starts
        again = None
        while again is None:
            pause_s = PAUSES_S[min(starts, len(PAUSES_S) - 1)]
            starts += 1
            if not _runs_for(gateway, pause_s):
                break
            again = _start(settings)
        if again is not None and _runs_for(gateway, 0):
            server = again
        else:
            # The gateway ended or was stopped meanwhile: what `stop` did not find is stopped here.
            torchserve.stop_torchserve(settings)
            if known(gateway.pid_file) is None:
                return
            gateway.stop()
            raise Exited([gateway], "TorchServe had exited before")


def _runs_for(gateway: Running, seconds: float) -> bool:
    """Whether the gateway still runs after so many seconds, and nobody has begun to stop it."""
    ends_s = time.monotonic() + seconds
    while gateway.alive() and gateway.pid_file.exists():
        if time.monotonic() >= ends_s:
            return True
        time.sleep(LOOK_S)
    return False


def _start(settings: Settings) -> Running | None:
    try:
        return torchserve.start_torchserve(settings)
    except ServingError as error:
        log.error("TorchServe did not start", problem=str(error))
        return None
