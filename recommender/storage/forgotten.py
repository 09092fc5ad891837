"""The users that `recommender forget` removed: a list of salted hashes, so that whoever still has them stays out.

Ingest, materialisation, gateway and shippers read it. An id cannot be read from the list, but whoever has the file can
ask whether an id is in it, as all of these do.
"""

import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from recommender import logs
from recommender.errors import CorruptFileError
from recommender.storage.home import Home
from recommender.storage.locks import lock, lock_file
from recommender.storage.manifest import digest, write_text

log = logs.get(__name__)
FORMAT = 1
ANONYMOUS = "(forgotten)"
"""Stands for the id of a forgotten user in a request, so that neither answer nor record knows whose it was."""
_SALT_BYTES = 32
"""As many as the hash has: guessing the salt is as hard as guessing the hash."""


@dataclass(frozen=True)
class Forgotten:
    """The list as it was read."""

    salt: str
    since: Mapping[str, str]
    """Salted hash of a user's id -> the moment at which the user was forgotten, ISO 8601."""

    @classmethod
    def of(cls, home: Home) -> Self:
        """Read the list of a home. No file: nobody was forgotten.

        Raises:
            CorruptFileError: It is damaged or cannot be read, so that it is not known who must stay out.
        """
        try:
            document = json.loads(home.forgotten.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}")
            since = {str(name): datetime.fromisoformat(at).isoformat() for name, at in document["users"].items()}
            return cls(str(document["salt"]), since)
        except FileNotFoundError:
            return cls("", {})
        except OSError as error:
            raise CorruptFileError(
                f"{home.forgotten}: cannot be read ({error.strerror or error}). Give this process the right to read it"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptFileError(
                f"{home.forgotten}: damaged ({error}). Restore it from a backup. Without one, move it away, and then "
                "forget again whom you forgot"
            ) from None

    def __len__(self) -> int:
        return len(self.since)

    def __contains__(self, user_id: object) -> bool:
        return bool(self.since) and isinstance(user_id, str) and hash_of(self.salt, user_id) in self.since

    def moment_of(self, user_id: str) -> str | None:
        """When a user was forgotten, ISO 8601. None: never."""
        return self.since.get(hash_of(self.salt, user_id)) if self.since else None

    def among(self, user_ids: Iterable[str]) -> list[str]:
        """Those of these users that were forgotten."""
        return [user_id for user_id in user_ids if user_id in self]

    def identity(self, other: str) -> str:
        """The identity of a source together with this list. While nobody was forgotten it is the source's own."""
        return digest(other, sorted(self.since)) if self.since else other


def forget(home: Home, user_ids: Iterable[str], now: datetime) -> Forgotten:
    """Add users to the list of a home, and return it."""
    with _Changing(home) as known:
        salt = known.salt or secrets.token_hex(_SALT_BYTES)
        moment = now.astimezone(UTC).isoformat()
        # Who is there already keeps the first moment, at which the user asked.
        changed = Forgotten(salt, {hash_of(salt, user): moment for user in user_ids} | dict(known.since))
        _save(home, changed)
    return changed


def allow(home: Home, user_ids: Iterable[str]) -> list[str]:
    """Take users from the list, because they came back. Returns those that were on it."""
    with _Changing(home) as known:
        found = known.among(user_ids)
        gone = {hash_of(known.salt, user) for user in found}
        if gone:
            _save(home, Forgotten(known.salt, {name: at for name, at in known.since.items() if name not in gone}))
    return found


def hash_of(salt: str, user_id: str) -> str:
    """The hash by which a user is on the list. It takes about a microsecond."""
    return hmac.digest(salt.encode(), user_id.encode(errors="surrogatepass"), "sha256").hex()


class _Changing:
    """The list while no other process changes it."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> Forgotten:
        self._lock = lock_file(self._home.forgotten.with_name(f".{self._home.forgotten.name}.lock"))
        lock(self._lock)
        return Forgotten.of(self._home)

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def _save(home: Home, changed: Forgotten) -> None:
    users = dict(sorted(changed.since.items()))
    write_text(home.forgotten, json.dumps({"format": FORMAT, "salt": changed.salt, "users": users}, indent=1))


class ForgottenFollower:
    """The list as it is now, for a process that lives long. `refresh` reads it again only where it was replaced."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: tuple[int, int] | None = None
        self.current: Forgotten | None = None
        """None: the list could not be read since this process began, so everybody may be on it."""
        self.problem: str | None = None
        """Why the list cannot be read now, and what to do. None: it can."""
        self.refresh()

    def refresh(self) -> Forgotten | None:
        """Read the list again if its file was replaced, and return it.

        While it cannot be read, the last one stays: nobody can be added to such a list. Each call then tries again.
        """
        try:
            seen = self._stamp()
            if seen is None and self.current is not None and self.current.since:
                # Who takes the whole list away allows everybody.
                log.warning("the list of forgotten users is gone, so all may come back", path=str(self._home.forgotten))
            if self.current is None or self.problem is not None or seen != self._seen:
                self.current, self._seen = Forgotten.of(self._home), seen
        except CorruptFileError as error:
            self._note(str(error))
            return self.current
        if self.problem is not None:
            log.info("the list of forgotten users can be read again", users=len(self.current or ()))
        self.problem = None
        return self.current

    def _stamp(self) -> tuple[int, int] | None:
        """Tells one file of the list from the next. None: there is no list."""
        try:
            stat = self._home.forgotten.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptFileError(
                f"{self._home.forgotten}: cannot be looked at ({error.strerror or error}). Give this process the right "
                "to read it"
            ) from None
        return stat.st_ino, stat.st_mtime_ns

    def _note(self, problem: str) -> None:
        """Log a problem once."""
        if problem != self.problem:
            what = "nobody is let in" if self.current is None else "the last one stays"
            log.error(f"the list of forgotten users cannot be read, so {what}", problem=problem)
        self.problem = problem
