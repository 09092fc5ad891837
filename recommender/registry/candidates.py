"""A trained candidate as a folder: its lineage, and its fits at the boundaries of gate, test and now.

lineage.json        data hash, training hash, ranker, code version, boundaries
fits/{gate,test,live}/   one bundle each
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.errors import CorruptFileError, RegistryError
from recommender.storage.manifest import digest, read_manifest

FITS = ("gate", "test", "live")
LINEAGE = "lineage.json"
IDENTITY = ("data_hash", "training_hash", "ranker", "code_version")


def version_of(candidate: Path) -> str:
    """The id of a trained candidate: its ranker's name and a hash of data, configuration, ranker and code.

    Raises:
        RegistryError: its lineage lacks one of these.
    """
    known = lineage(candidate)
    missing = [name for name in IDENTITY if not known.get(name)]
    if missing:
        raise RegistryError(f"{candidate / LINEAGE}: lacks {', '.join(missing)}; train it again")
    if "live" not in fits(candidate):
        raise RegistryError(f"{candidate}: has no fits/live bundle, so it could never serve; train it again")
    return f"{known['ranker']}-{digest(*(known[name] for name in IDENTITY))[:10]}"


def lineage(candidate: Path) -> dict[str, Any]:
    """Where a candidate or version came from.

    Raises:
        CorruptFileError: lineage.json is missing or is no JSON object.
    """
    path = candidate / LINEAGE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path}: not readable ({error}); train the candidate again") from None
    if not isinstance(content, dict):
        raise CorruptFileError(f"{path}: expected an object, found {type(content).__name__}; train it again")
    return content


def fits(candidate: Path) -> dict[str, Path]:
    """The fits that a candidate has, by name."""
    return {fit: candidate / "fits" / fit for fit in FITS if (candidate / "fits" / fit).is_dir()}


def features(candidate: Path) -> tuple[str, ...]:
    """The features that its live fit was trained on; () where the ranker reads none."""
    path = candidate / "fits" / "live" / "schema.json"
    if not path.is_file():
        return ()
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["features"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path}: not readable ({error}); train the candidate again") from None


def boundaries(candidate: Path) -> dict[str, datetime]:
    """The moment up to which each fit has seen the world, UTC."""
    known = lineage(candidate).get("boundaries", {})
    found = {fit: datetime.fromisoformat(str(known[fit])) for fit in fits(candidate) if fit in known}
    return {fit: moment if moment.tzinfo else moment.replace(tzinfo=UTC) for fit, moment in found.items()}


def fit_before(candidate: Path, moment: datetime) -> Path:
    """The newest verified fit whose boundary is not after `moment`.

    Raises:
        RegistryError: every fit has seen something later; scoring with one would be a leak.
    """
    allowed = {fit: boundary for fit, boundary in boundaries(candidate).items() if boundary <= moment}
    if not allowed:
        known = ", ".join(f"{fit} {boundary.isoformat()}" for fit, boundary in boundaries(candidate).items())
        raise RegistryError(
            f"{candidate.name}: no fit ends by {moment.isoformat()} (it has {known or 'none'}), so it cannot be judged on "
            "what follows without having seen it. Train it again with an earlier `time.gate_from`."
        )
    newest = max(allowed, key=lambda fit: allowed[fit])
    read_manifest(candidate / "fits" / newest)
    return candidate / "fits" / newest
