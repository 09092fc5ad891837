"""TorchServe as the deployer sees it: a version's bundle becomes an archive, which TorchServe registers."""

from dataclasses import dataclass
from pathlib import Path

from recommender.settings import Settings
from serving.archive import archive_name, build_archive
from serving.deployer.management import TorchServe
from serving.request import PROBE


@dataclass(frozen=True)
class TorchServeLoading:
    """The versions of one TorchServe."""

    settings: Settings

    @property
    def server(self) -> TorchServe:
        """The client of its management API."""
        return TorchServe(self.settings)

    def is_up(self) -> bool:
        """See `Loading`: whether Java answers."""
        return self.server.is_up()

    def versions(self) -> dict[str, list[str]]:
        """See `Loading`."""
        return self.server.versions()

    def register(self, version: str, bundle: Path) -> None:
        """See `Loading`."""
        archive = build_archive(bundle, self._archive(version), version=version)
        self.server.register(archive.name)

    def wait_ready(self, version: str) -> None:
        """See `Loading`."""
        self.server.wait_ready(version)

    def check(self, version: str) -> None:
        """See `Loading`."""
        self.server.predict(PROBE, version)

    def set_default(self, version: str) -> None:
        """See `Loading`: for requests to TorchServe itself. The gateway names the version of every request."""
        self.server.set_default(version)

    def unregister(self, version: str) -> None:
        """See `Loading`."""
        try:
            self.server.unregister(version)
        finally:
            self._archive(version).unlink(missing_ok=True)

    def _archive(self, version: str) -> Path:
        return self.server.model_store / archive_name(version)
