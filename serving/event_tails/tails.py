"""What an online store does with events: append each to its user's tail once, so that every gateway reads it.

Adding a store takes a class here and a line of `TAILS`, and that its reader returns the tail (`Stored`).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from recommender.settings import Settings, choose
from serving.event_tails.append import Append
from serving.event_tails.postgres_tails import PostgresTails
from serving.event_tails.redis_tails import RedisTails
from serving.event_tails.sqlite_tails import SqliteTails


class Tails(Protocol):
    """Where the tails are kept."""

    async def append(self, appends: Sequence[Append], within_s: float) -> list[bool]:
        """Append events, and tell which ids are new. The others change nothing.

        Raises:
            TimeoutError: Some may not be there. Appending all of them again is safe.
            FeatureStoreError: The store cannot be written; names it. Appending again is safe.
        """

    def close(self) -> None:
        """Release connections and threads."""


_TAILS: dict[str, Callable[[Settings], Tails]] = {
    "sqlite": SqliteTails.of,
    "redis": RedisTails.of,
    "postgres": PostgresTails.of,
}
"""By the name in the setting `store.kind`."""


def open_tails(settings: Settings) -> Tails:
    """The tails in the store that the settings name.

    Raises:
        SettingsError: The settings name a kind of store that keeps no tails; lists the known ones.
    """
    return choose(_TAILS, settings.store.kind, "store.kind")(settings)
