"""What identifies the content of a location, so that an unchanged source need not be read again."""

import uuid
from pathlib import Path

from recommender.datasets.mapping import read_mapping
from recommender.datasets.reading.objects import is_object, object_fingerprints
from recommender.datasets.reading.opening import local_files, resolve
from recommender.storage.manifest import sha256


def fingerprints(location: str) -> list[str]:
    """Hashes of the files on this machine, or path, size and version tag of the objects, that a location names.

    Raises:
        SourceError: there is none; names the location.
    """
    if is_object(location):
        return object_fingerprints(location)
    return [sha256(file) for file in local_files(location)]


def content_of(mapping_file: Path) -> list[str]:
    """What identifies the content of a mapping and of all that it names.

    The result of a query to a database has no such mark: whether it changed is known only by asking again. A number
    that never recurs stands for it, so that it is always read again.

    Raises:
        SourceError: the mapping or a file that it names is missing; names it.
    """
    mapping = read_mapping(mapping_file)
    named = [*mapping.inputs.values(), *(part for parts in mapping.tables.values() for part in parts)]
    files = sorted({resolve(one.file, mapping_file) for one in named if one.file is not None})
    queries = [uuid.uuid4().hex for one in mapping.inputs.values() if one.database is not None]
    return [sha256(mapping_file), *(mark for file in files for mark in fingerprints(file)), *queries]
