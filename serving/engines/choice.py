"""The engine that the settings name, as the gateway uses it."""

from collections.abc import Callable

from recommender.settings import Settings, choose
from serving.engines.contract import Scoring
from serving.engines.in_process.scoring import InProcessScoring
from serving.engines.oip.addresses import Addresses
from serving.engines.oip.scoring import OipScoring
from serving.engines.torchserve import TorchServeScoring

Opened = Callable[[Settings, Callable[[], float]], Scoring]

SCORING: dict[str, Opened] = {
    "torchserve": lambda settings, clock: TorchServeScoring(
        settings.serving.inference_port, clock, num_workers=settings.serving.num_workers
    ),
    "in_process": InProcessScoring,
    "oip": lambda settings, clock: OipScoring(Addresses.of(settings), clock),
}
"""The gateway's half of each engine, by its name in the setting `serving.engine`."""


def open_engine(settings: Settings, arrived_s: Callable[[], float]) -> Scoring:
    """The gateway's half of the engine that the settings name. Opening connects to nothing.

    Args:
        settings: They name the engine.
        arrived_s: When the bytes that are being read arrived, on the clock of `time.perf_counter`.

    Raises:
        SettingsError: There is no such engine; lists the known ones.
    """
    return choose(SCORING, settings.serving.engine, "serving.engine")(settings, arrived_s)
