"""Brings a user's row up to date for one request: the events in the user's tail are folded into it."""

from dataclasses import replace

from recommender import logs
from recommender.errors import FeatureStoreError
from recommender.events import tail
from recommender.events.fold import Fold
from recommender.events.tail import Readings
from recommender.matching.packed_user import PackedUser
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.online_store.client import OnlineStoreClient
from serving.shop import Shop

log = logs.get(__name__)


class Folding:
    """Folds tails into rows, and follows which events the rows have read."""

    def __init__(self, settings: Settings, online_store: OnlineStoreClient) -> None:
        self._path = Home.of(settings).feature_store.events_read
        self._online_store = online_store
        self._seen: tuple[int, int] | None = None
        self._readings = Readings({})
        self._fold: Fold | None = None

    def folded(self, user_id: str, packed: PackedUser, shop: Shop, at_us: int) -> PackedUser:
        """The user's row with the events up to a moment, and without its tail.

        Raises:
            FeatureStoreError: The row or its tail is damaged, or refers to another taxonomy than the shop's.
        """
        self._know(packed)
        if self._fold is None or self._fold.catalogue is not shop.catalogue:
            self._fold = Fold(shop.catalogue, self._readings)
        names = self._online_store.names_of(packed)
        return replace(packed, content=self._fold.folded(user_id, packed, names, at_us), tail=b"")

    def unread(self, packed: PackedUser) -> bytes:
        """The part of a user's tail that the row has not read."""
        self._know(packed)
        return tail.unread(packed.tail, packed.feature_time_us, self._readings)

    def _know(self, packed: PackedUser) -> None:
        # A run writes the reading of its moment before the first row of that moment.
        if packed.feature_time_us not in self._readings.by_moment:
            self.refresh()

    def refresh(self) -> None:
        """Read the readings again if their file was replaced."""
        try:
            stat = self._path.stat()
        except OSError:
            return
        seen = (stat.st_ino, stat.st_mtime_ns)
        if seen == self._seen:
            return
        try:
            self._readings, self._fold, self._seen = Readings.load(self._path), None, seen
        except FeatureStoreError as error:
            log.warning("readings of events cannot be read, the last ones stay", problem=str(error))
            self._seen = seen
