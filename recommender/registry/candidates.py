"""A trained candidate as a folder: its lineage, and its fits at the boundaries gate, test and live.

Its files:

    lineage.json             data hash, training hash, ranker, code version, boundaries
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
VERSION_DIGITS = 10
"""Hex digits of a version's hash: 40 bits, so among a thousand versions a collision has a probability below 1e-6."""


def version_of(candidate: Path) -> str:
    """Return the id of a trained candidate: its ranker's name and a hash of data, configuration, ranker and code.

    Raises:
        RegistryError: its lineage lacks one of these, or it has no live fit.
    """
    facts = lineage(candidate)
    missing = [name for name in IDENTITY if not facts.get(name)]
    if missing:
        raise RegistryError(f"{candidate / LINEAGE}: lacks {', '.join(missing)}; train the candidate again")
    if "live" not in fits(candidate):
        raise RegistryError(f"{candidate}: has no fits/live bundle, so it cannot serve; train the candidate again")
    return f"{facts['ranker']}-{digest(*(facts[name] for name in IDENTITY))[:VERSION_DIGITS]}"


def lineage(candidate: Path) -> dict[str, Any]:
    """Return where a candidate or version came from.

    Raises:
        CorruptFileError: lineage.json is missing or is not a JSON object.
    """
    path = candidate / LINEAGE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path}: cannot be read as JSON ({error}); train the candidate again") from None
    if not isinstance(content, dict):
        raise CorruptFileError(
            f"{path}: must be a JSON object (got {type(content).__name__}); train the candidate again"
        )
    return content


def fits(candidate: Path) -> dict[str, Path]:
    """Return the folders of a candidate's fits by name."""
    return {fit: candidate / "fits" / fit for fit in FITS if (candidate / "fits" / fit).is_dir()}


def features(candidate: Path) -> tuple[str, ...]:
    """Return the features that the live fit was trained on, empty for a ranker that reads none.

    Raises:
        CorruptFileError: the bundle's schema.json cannot be read.
    """
    path = candidate / "fits" / "live" / "schema.json"
    if not path.is_file():
        return ()
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["features"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path}: cannot be read ({error}); train the candidate again") from None


def boundaries(candidate: Path) -> dict[str, datetime]:
    """Return the time up to which each fit has seen data, UTC, by the fit's name."""
    recorded = lineage(candidate).get("boundaries", {})
    times = {fit: datetime.fromisoformat(str(recorded[fit])) for fit in fits(candidate) if fit in recorded}
    return {fit: time if time.tzinfo else time.replace(tzinfo=UTC) for fit, time in times.items()}


def fit_before(candidate: Path, moment: datetime) -> Path:
    """Return the newest fit whose boundary is not after `moment`, verified.

    Raises:
        RegistryError: every fit has seen later data, so evaluating one on it would be a leak.
        CorruptFileError: a file of the fit is missing, truncated or altered.
    """
    allowed = {fit: boundary for fit, boundary in boundaries(candidate).items() if boundary <= moment}
    if not allowed:
        listed = ", ".join(f"{fit} {boundary.isoformat()}" for fit, boundary in boundaries(candidate).items())
        raise RegistryError(
            f"{candidate.name}: every fit has seen data after {moment.isoformat()} (boundaries: {listed or 'none'}), "
            "so it cannot be evaluated on what follows; train it again with an earlier `time.gate_from`"
        )
    newest = max(allowed, key=lambda fit: allowed[fit])
    read_manifest(candidate / "fits" / newest)
    return candidate / "fits" / newest
