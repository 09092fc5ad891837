"""Users whose decisions were removed, so that what arrives late, such as a dead replica's segments, stays out too.

The list holds a salted hash of the user's id and the moment of the removal: decisions up to then stay out, later ones
are new.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from recommender.decision_tables.schema import quoted
from recommender.errors import CorruptFileError
from recommender.storage.home import Home
from recommender.storage.manifest import write_text

FILE = "removed.json"
FORMAT = 2
"""The first format was one object of hashes and moments, without a salt."""
_SALT_BYTES = 32


@dataclass(frozen=True)
class RemovedUsers:
    """The list."""

    salt: str
    until: Mapping[str, str]
    """SHA-256 of the salt and a user's id -> the moment of the removal, ISO 8601."""


def removed_users(home: Home) -> RemovedUsers:
    """Read the list of a home.

    Raises:
        CorruptFileError: The list cannot be read, so that it is not known what must stay out.
    """
    path = home.decisions / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        salt, users = (found["salt"], found["users"]) if "salt" in found else ("", found)
        return RemovedUsers(
            str(salt), {str(user): datetime.fromisoformat(moment).isoformat() for user, moment in users.items()}
        )
    except FileNotFoundError:
        return RemovedUsers("", {})
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CorruptFileError(f"{path}: not readable ({error}). Restore it from a backup.") from None


def note_removed(home: Home, users: list[str], now: datetime) -> None:
    """Add users to the list."""
    moment, known = now.astimezone(UTC).isoformat(), removed_users(home)
    # A list without a salt goes on without one: its hashes cannot be made again.
    salt = known.salt or ("" if known.until else secrets.token_hex(_SALT_BYTES))
    listed = {**known.until, **{sha256((salt + user).encode()).hexdigest(): moment for user in users}}
    document = {"format": FORMAT, "salt": salt, "users": dict(sorted(listed.items()))}
    write_text(home.decisions / FILE, json.dumps(document, indent=1))


def without_removed(removed: RemovedUsers, moment: str = "decided_at") -> str:
    """The condition that leaves out decisions of removed users up to their removal.

    `moment`: the column with the time of the decision.
    """
    if not removed.until:
        return "true"
    rows = ", ".join(f"({quoted(user)}, TIMESTAMPTZ {quoted(until)})" for user, until in removed.until.items())
    return (
        f"NOT EXISTS (SELECT 1 FROM (VALUES {rows}) AS removed (hashed, until) "
        f"WHERE hashed = sha256({quoted(removed.salt)} || user_id) AND {moment} <= until)"
    )
