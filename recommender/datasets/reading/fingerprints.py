"""What identifies the content of a location, so that an unchanged source need not be read again."""

import uuid

from recommender.datasets.reading.objects import is_object, object_fingerprints
from recommender.datasets.reading.opening import local_files
from recommender.storage.manifest import sha256


def fingerprints(location: str) -> list[str]:
    """Hashes of the files on this machine, or path, size and version tag of the objects, that a location names.

    Raises:
        SourceError: there is none; names the location.
    """
    if is_object(location):
        return object_fingerprints(location)
    return [sha256(file) for file in local_files(location)]


def unknown_content() -> str:
    """A fingerprint that never recurs, for the result of a query: whether it changed is known only by asking again."""
    return uuid.uuid4().hex
