"""Where a version lies on a server of the Open Inference Protocol: settings `oip_url` and `oip_model`."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from recommender.settings import Settings

VERSION = "{version}"


@dataclass(frozen=True)
class Addresses:
    """Names of versions on one server, or on one server for each version."""

    url: str
    model: str

    @classmethod
    def of(cls, settings: Settings) -> "Addresses":
        """The addresses that the settings name."""
        assert settings.serving.oip_url is not None  # the settings were validated
        return cls(settings.serving.oip_url.rstrip("/"), settings.serving.oip_model)

    def name(self, version: str) -> str:
        """The model's name on the server."""
        return self.model.replace(VERSION, version)

    def version(self, name: str) -> str | None:
        """The version that a model's name holds, or None for a model that is not ours."""
        before, found, after = self.model.partition(VERSION)
        if not found or not name.startswith(before) or not name.endswith(after):
            return None
        return name[len(before) : len(name) - len(after)] or None

    @property
    def is_named(self) -> bool:
        """Whether each version is a model of its own, which the repository extension can load and unload."""
        return VERSION in self.model

    def base(self, version: str) -> str:
        """Scheme, host, port and leading path of the server that has the version."""
        return self.url.replace(VERSION, version)

    def path(self, version: str, verb: str) -> str:
        """The path of `infer` or `ready` behind `base`."""
        under = "" if self.is_named or VERSION in self.url else f"/versions/{version}"
        return f"/v2/models/{self.name(version)}{under}/{verb}"

    def place(self, version: str) -> tuple[str, int, str]:
        """Host, port and leading path of the server that has the version."""
        parts = urlsplit(self.base(version))
        assert parts.hostname is not None
        return parts.hostname, parts.port or 80, parts.path
