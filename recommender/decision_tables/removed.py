"""Users whose decisions were removed, so that what arrives late, such as a dead replica's segments, stays out too.

The list holds a hash of the user's id and the moment of the removal: decisions up to then stay out, later ones are new.
"""

import json
from datetime import UTC, datetime
from hashlib import sha256

from recommender.decision_tables.schema import quoted
from recommender.errors import CorruptFileError
from recommender.storage.home import Home
from recommender.storage.manifest import write_text

FILE = "removed.json"


def removed_users(home: Home) -> dict[str, str]:
    """SHA-256 of a removed user's id -> the moment of the removal, ISO 8601.

    Raises:
        CorruptFileError: The list cannot be read, so that it is not known what must stay out.
    """
    path = home.decisions / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(user): datetime.fromisoformat(moment).isoformat() for user, moment in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path}: not readable ({error}). Restore it from a backup.") from None


def note_removed(home: Home, users: list[str], now: datetime) -> dict[str, str]:
    """Add users to the list, and return it."""
    moment = now.astimezone(UTC).isoformat()
    listed = removed_users(home) | {sha256(user.encode()).hexdigest(): moment for user in users}
    write_text(home.decisions / FILE, json.dumps(listed, indent=1, sort_keys=True))
    return listed


def without_removed(removed: dict[str, str], moment: str = "decided_at") -> str:
    """The condition that leaves out decisions of removed users up to their removal.

    `moment`: the column with the time of the decision.
    """
    if not removed:
        return "true"
    rows = ", ".join(f"({quoted(user)}, TIMESTAMPTZ {quoted(moment)})" for user, moment in removed.items())
    return (
        f"NOT EXISTS (SELECT 1 FROM (VALUES {rows}) AS removed (hashed, until) "
        f"WHERE hashed = sha256(user_id) AND {moment} <= until)"
    )
