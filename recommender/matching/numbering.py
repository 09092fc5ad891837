"""Which numbers of items and axis values a packed value may hold, and how a reader knows them.

Numbers are append-only (`recommender.storage.ids`). So a catalogue reads every value that was packed with its own ids
or an earlier state of them. It also reads a value packed with a later state, without the numbers that it lacks: while a
materialisation runs, users have new values and serving still holds the old catalogue.

A packed value names its state and the `BEFORE` states before it: 8 bytes, then 4 bytes each, newest first. A later
state of the same ids names the reader's own state among those before it. Other ids do not, even where they began alike.
"""

from dataclasses import dataclass
from functools import cached_property

from recommender.errors import FeatureStoreError

BEFORE = 16
"""States before its own that a packed value names. A state is added by a build that saw a new value, and a
materialisation follows each build. Chosen by hand: two weeks of daily builds whose materialisations all failed."""
OWN_BYTES, BEFORE_BYTES = 8, 4
"""Of a state's name. Among `BEFORE` names, 32 bits let a wrong value pass once in 270 million."""
NAME_BYTES = OWN_BYTES + BEFORE * BEFORE_BYTES


@dataclass(frozen=True, eq=False)
class Numbering:
    """The ids that a catalogue knows."""

    versions: tuple[str, ...]
    """Names of its state of the ids and of all before it, oldest first, 16 hex digits each."""
    num_values: tuple[int, ...]
    """For each axis the number after its last one."""
    num_items: int
    """Number of items with the unknown one."""

    @cached_property
    def name(self) -> str:
        """The name that a packed value gets, hex."""
        before = [version[: 2 * BEFORE_BYTES] for version in self.versions[-2 : -2 - BEFORE : -1]]
        return (self.versions[-1] + "".join(before)).ljust(2 * NAME_BYTES, "0")

    @cached_property
    def _known(self) -> frozenset[bytes]:
        return frozenset(bytes.fromhex(version) for version in self.versions)

    @cached_property
    def _own(self) -> bytes:
        return bytes.fromhex(self.versions[-1])[:BEFORE_BYTES]

    def lacks_some(self, name: bytes, what: str) -> bool:
        """Whether a value was packed with a later state, so that it may hold numbers beyond the catalogue's last.

        Args:
            name: the name in the value.
            what: the value, for the message.

        Raises:
            FeatureStoreError: the value was packed with other ids, or with ids that are too far ahead.
        """
        if name[:OWN_BYTES] in self._known:
            return False
        starts = range(OWN_BYTES, len(name), BEFORE_BYTES)
        before = [name[start : start + BEFORE_BYTES] for start in starts]
        if self._own in [one for one in before if any(one)]:
            return True
        raise FeatureStoreError(
            f"{what}: the value was packed with ids {name[:OWN_BYTES].hex()}, the catalogue has {self.versions[-1]}. "
            f"They are of two homes, or the catalogue is over {BEFORE} additions behind; "
            "materialise both from the same features"
        )
