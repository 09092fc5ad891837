"""The engine that the settings name, as the deployer and `recommender serve` use it."""

from collections.abc import Callable

from recommender.settings import Settings, choose
from serving.deployer import torchserve
from serving.deployer.processes import Running
from serving.deployer.torchserve_loading import TorchServeLoading
from serving.engines.contract import Loading
from serving.engines.in_process.loading import InProcessLoading
from serving.engines.oip.loading import OipLoading

LOADING: dict[str, Callable[[Settings], Loading]] = {
    "torchserve": TorchServeLoading,
    "in_process": InProcessLoading,
    "oip": OipLoading,
}
"""The deployer's half of each engine, by its name in the setting `serving.engine`."""
SERVERS: dict[str, Callable[[Settings], Running] | None] = {
    "torchserve": torchserve.start_torchserve,
    "in_process": None,
    "oip": None,
}
"""What starts the engine's own server beside the gateway. None: the gateway is it, or somebody else runs it."""


def loading(settings: Settings) -> Loading:
    """The deployer's half of the engine that the settings name.

    Raises:
        SettingsError: There is no such engine; lists the known ones.
    """
    return choose(LOADING, settings.serving.engine, "serving.engine")(settings)


def start_server(settings: Settings) -> Running | None:
    """Start the engine's own server, where it has one, and wait until it answers.

    Raises:
        ServingError: It runs already, a port is busy (named), or it did not start.
        SettingsError: There is no such engine; lists the known ones.
    """
    start = choose(SERVERS, settings.serving.engine, "serving.engine")
    return None if start is None else start(settings)
