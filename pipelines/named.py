"""Our pipelines by the names that people type."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from recommender.errors import SettingsError, suggestion
from recommender.settings import Settings

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

TRAINING, MONITORING, REFRESH = "training", "monitoring", "refresh"
PIPELINES = {TRAINING: "campaign-training", MONITORING: "campaign-monitoring", REFRESH: "campaign-refresh"}
"""The name that people type -> the name at an endpoint, which is the `NAME` of pipelines/<typed>.py."""


@dataclass(frozen=True)
class NamedPipeline:
    """One of our pipelines. Making one imports no kfp."""

    typed: str
    """As people type it, and as the names of compiled files begin."""

    def __post_init__(self) -> None:
        if self.typed not in PIPELINES:
            raise SettingsError(f"no pipeline {self.typed!r}; {suggestion(self.typed, PIPELINES)}")

    @property
    def name(self) -> str:
        """Its name at an endpoint."""
        return PIPELINES[self.typed]

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self._module.TITLE)

    def of(self, settings: Settings, **how: Any) -> "BaseComponent":
        """The pipeline of these settings. `how`: as the keyword arguments of `training_pipeline_for`."""
        build = getattr(self._module, f"{self.typed}_pipeline_for")
        # At each setting of each task, KFP looks up the source line of every caller. A new thread has few of them.
        with ThreadPoolExecutor(1) as thread:
            made: BaseComponent = thread.submit(build, settings, **how).result()
        return made

    @property
    def _module(self) -> Any:
        return import_module(f"pipelines.{self.typed}")
