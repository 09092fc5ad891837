"""Which versions answer now: written by the deployer when they are ready, followed by the gateway."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text


@dataclass(frozen=True)
class Deployed:
    """Versions with live workers. `failed`: what the registry wants but could not be loaded, with the reason."""

    champion: str | None = None
    canary: str | None = None
    canary_share: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(version for version in (self.champion, self.canary) if version is not None)

    def save(self, state: Path) -> None:
        write_text(ServingState(state).deployed, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, state: Path) -> "Deployed":
        """What is deployed; nothing where no deployer has written yet."""
        try:
            return cls(**json.loads(ServingState(state).deployed.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()


class Follower:
    """The deployed versions, read again when the file was replaced."""

    def __init__(self, state: Path) -> None:
        self._state, self._seen = state, (0, 0)
        self.current = Deployed()
        self.refresh()

    def refresh(self) -> Deployed:
        try:
            stat = ServingState(self._state).deployed.stat()
        except FileNotFoundError:
            return self.current
        if (stat.st_ino, stat.st_mtime_ns) != self._seen:
            self.current = Deployed.load(self._state)
            self._seen = (stat.st_ino, stat.st_mtime_ns)
        return self.current
