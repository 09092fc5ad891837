"""Forgets users: keeps them out from now on, removes what is held of them, and looks whether anything is left.

Every step is safe to kill, and forgetting again goes on where the last one was. Nothing is removed while a pipeline, a
training or a materialisation uses the home, because it could write what it has read before.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from recommender import logs
from recommender.decisions.erasing import erasing
from recommender.decisions.log import folders_of as folders_of_decisions
from recommender.decisions.names import segments_in
from recommender.decisions.shipping import ship
from recommender.errors import HomeInUse
from recommender.events.log import folders_of as folders_of_events
from recommender.privacy.figures import Figures
from recommender.privacy.files import OfflineStore, Runs
from recommender.privacy.half_written import HalfWritten
from recommender.privacy.other_files import OtherFiles
from recommender.privacy.places import Decisions, Events, Online, OnlineErasure, Place, Trace, scanner_of
from recommender.privacy.removal import delete_hidden
from recommender.privacy.scanner import LEAST_CHARACTERS, LEAST_DIGITS, is_long
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage import forgotten
from recommender.storage.forgotten import Forgotten, ForgottenFollower
from recommender.storage.home import Home
from recommender.storage.in_use import alone
from recommender.storage.turns import turn

log = logs.get(__name__)
FOLLOWED_S = 1.0
"""Seconds after which every gateway keeps forgotten users out. It looks at the list five times a second."""
SHIPPED_S, LOOK_S = 10.0, 0.2
"""Seconds for a gateway to ship a segment that it has closed, and between looks. By hand: it takes one on an idle
machine."""
FREE_S = 1.0
"""Seconds between looks whether something still uses the home. By hand: short beside the steps of a run."""
EVERYWHERE = "every file of the home"


@dataclass(frozen=True)
class Line:
    """One place: what it held, and what it holds now."""

    place: str
    found: tuple[Trace, ...]
    left: tuple[Trace, ...]


@dataclass(frozen=True)
class Report:
    """What a forget found and did."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """What to know beside the table: what could not be removed or checked, and what to do."""
    nowhere: Mapping[str, str | None] = field(default_factory=dict)
    """Those of the users of whom nothing was found -> the moment at which they were forgotten before, ISO 8601."""
    dry: bool = False

    @property
    def left(self) -> int:
        """Traces that remain."""
        return sum(trace.count for line in self.lines for trace in line.left)


def places_of(settings: Settings, online: OnlineErasure, events: Events) -> list[Place]:
    """The places, in the order of their removal: what leads to others goes after them."""
    offline = OfflineStore(settings)
    # Figures are measured again from tables of runs, training sets are found by what the offline store holds, and
    # remembered ids of events by the log.
    return [
        HalfWritten(settings),
        Figures(settings),
        Runs(settings, offline),
        offline,
        Online(online, events),
        events,
        Decisions(settings),
        OtherFiles(settings),
    ]


def look_for(settings: Settings, users: Sequence[str], online: OnlineErasure) -> Report:
    """Say what is held of users, and change nothing."""
    places = places_of(settings, online, Events(settings))
    found = {place.name: tuple(place.find(users)) for place in places}
    nowhere = _nowhere(users, found, places, Forgotten.of(Home.of(settings)))
    return Report(tuple(Line(name, own, own) for name, own in found.items()), (), nowhere, dry=True)


def forget(
    settings: Settings,
    users: Sequence[str],
    online: OnlineErasure,
    *,
    now: datetime | None = None,
    wait_s: float = 0.0,
) -> Report:
    """Forget users, and say what was found where and what is left.

    Args:
        settings: the home and the stores.
        users: their ids.
        online: what removes users from the online store.
        now: the moment from which they are forgotten.
        wait_s: how long to wait for the end of what uses the home.

    Raises:
        HomeInUse: A pipeline, a training or a materialisation still runs. The users are kept out from now on, but what
            is held of them is still there.
        CorruptFileError: A list, manifest or table is damaged.
        FeatureStoreError: The online store, or the copy of the offline store, cannot be reached.
    """
    home = Home.of(settings)
    users, events, before = sorted(set(users)), Events(settings), Forgotten.of(home)
    events.note(users)
    forgotten.forget(home, users, now or datetime.now(UTC))
    with _free(home, wait_s), turn(home.removing, waits="another clean or forget removes; this one waits for it"):
        time.sleep(FOLLOWED_S)
        events.note(users)
        delete_hidden(home)
        late = _ship(settings)
        places, notes = places_of(settings, online, events), []
        found = {place.name: tuple(place.find(users)) for place in places}
        nowhere = _nowhere(users, found, places, before)
        for place in places:
            notes += place.remove(users)
            log.info("users removed", place=place.name, found=sum(one.count for one in found[place.name]))
        lines = [Line(place.name, found[place.name], tuple(place.find(users))) for place in places]
    lines.append(Line(EVERYWHERE, (), _everywhere(home, users)))
    return Report(tuple(lines), (*notes, *_notes(settings, users, late)), nowhere)


@contextmanager
def _free(home: Home, wait_s: float) -> Iterator[None]:
    """Wait until nothing uses the home, and let nothing begin to.

    Raises:
        HomeInUse: Something still uses it.
    """
    deadline, said = time.monotonic() + wait_s, False
    while True:
        with alone(home) as free:
            if free:
                yield
                return
        if time.monotonic() >= deadline:
            raise HomeInUse(
                f"{home.root}: a pipeline, a training or another forget uses this home now. The users are kept out "
                "from now on. To remove what is there, forget them again once it has ended; --wait HOURS waits for that"
            )
        if not said:
            log.info("waiting until nothing uses the home", home=str(home.root), at_most_s=round(wait_s))
            said = True
        time.sleep(FREE_S)


def _nowhere(
    users: Sequence[str], found: Mapping[str, Sequence[Trace]], places: Sequence[Place], before: Forgotten
) -> dict[str, str | None]:
    """Users of whom no place holds anything, and since when they were forgotten already."""
    seen = frozenset[str]().union(*(trace.users for traces in found.values() for trace in traces))
    unseen = [user for user in users if user not in seen]
    for place in places:
        if isinstance(place, Online):
            unseen = sorted(set(unseen) - place.among(unseen))
    return {user: before.moment_of(user) for user in unseen}


def _ship(settings: Settings) -> list[Path]:
    """Wait until the segments that this machine's gateways write now are shipped. Returns those that are not.

    What a killed process left is shipped from here. Whatever is shipped comes without forgotten users.
    """
    pairs = (folders_of_decisions(settings), folders_of_events(settings))
    erase = erasing(ForgottenFollower(Home.of(settings)))
    open_now = [path for own, _ in pairs if own.is_dir() for path in segments_in(own)]
    longest_s = max(settings.decision_log.segment_s, settings.events.segment_s) + SHIPPED_S
    deadline = time.monotonic() + longest_s
    while True:
        for own, shared in pairs:
            if own.is_dir():
                ship(own, shared, lambda _: None, erase)
        left = [path for path in open_now if path.exists()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LOOK_S)


def _everywhere(home: Home, users: Sequence[str]) -> tuple[Trace, ...]:
    """Files of the home that hold an id in whatever format, as the last proof."""
    seen = scanner_of(home, users).scan(home.root, leave_out=home.of_others)
    return tuple(Trace(str(one.path.relative_to(home.root)), len(one.ids), "ids") for one in seen)


def _notes(settings: Settings, users: Sequence[str], late: Sequence[Path]) -> list[str]:
    notes = [f"{path}: a gateway has not shipped it yet; forget again in a minute" for path in late]
    short = [user for user in users if not is_long(user)]
    if short:
        notes.append(
            f"ids of fewer than {LEAST_CHARACTERS} characters, or numbers of fewer than {LEAST_DIGITS} digits "
            f"({len(short)}), are looked for where users are kept, but not as text in every file, where "
            "they would be found by chance"
        )
    versions = Registry(settings.home).versions()
    if versions:
        notes.append(
            f"{len(versions)} trained versions learned from data that may have held these users. They keep no row and "
            "no id of a user. The next training leaves these users out: recommender run"
        )
    return notes
