"""The versions that answer now. The deployer writes this state when they are ready, and the gateway follows it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text


@dataclass(frozen=True)
class Deployed:
    """Versions with live workers."""

    champion: str | None = None
    canary: str | None = None
    canary_share: float = 0.0
    """Share of the users that get the canary."""
    former: str | None = None
    """The champion before this one, which stays loaded for a rollback and answers nobody."""
    failed: dict[str, str] = field(default_factory=dict)
    """Versions that the registry wants but that could not be loaded, each with the reason."""

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that answer: champion and canary, as far as there are any."""
        return tuple(version for version in (self.champion, self.canary) if version is not None)

    @property
    def loaded(self) -> tuple[str, ...]:
        """All versions with live workers."""
        return self.versions if self.former is None else (*self.versions, self.former)

    def save(self, state: Path) -> None:
        """Write the state into the folder `state`, whole or not at all."""
        write_text(ServingState(state).deployed, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, state: Path) -> "Deployed":
        """Read the deployed versions. There are none until a deployer has written the file."""
        try:
            return cls(**json.loads(ServingState(state).deployed.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()


class Follower:
    """Follows the deployed versions of one state folder."""

    def __init__(self, state: Path) -> None:
        self._state, self._seen = state, (0, 0)
        self.current = Deployed()
        self.refresh()

    def refresh(self) -> Deployed:
        """Read the file again if it was replaced, and keep the last state if there is none."""
        try:
            stat = ServingState(self._state).deployed.stat()
        except FileNotFoundError:
            return self.current
        if (stat.st_ino, stat.st_mtime_ns) != self._seen:
            self.current = Deployed.load(self._state)
            self._seen = (stat.st_ino, stat.st_mtime_ns)
        return self.current
