"""Copies objects of S3 and Google Cloud Storage to this machine, by pyarrow.

Keys, region and endpoint come from the ordinary environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS), never from the mapping.
"""

import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from recommender.datasets.reading.raw import Part, first_line
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceAway, SourceError

BLOCK_BYTES = 1 << 22
"""Copied at once: little memory, few calls. Chosen by hand."""
ATTEMPTS = 3
"""Tries of a request to a store. Chosen by hand."""
CONNECT_S = 5.0
"""Seconds to wait for a connection to a store. Chosen by hand."""
REQUEST_S = 60.0
"""Seconds to wait for an answer of a store. Chosen by hand."""
GIVE_UP_S = 15.0
"""Time after which Google's client stops trying again."""
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""What each kind of store takes its key from."""
IN_THE_MAPPING = "correct `file` in the mapping"
GLOB = re.compile(r"[*?\[]")


def is_object(location: str) -> bool:
    """Whether a location is an object's address, not a path.

    Raises:
        SourceError: it is an address of another kind, or holds a key.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        return False
    if scheme not in KEYS:
        raise SourceError(
            f"{_without_key(location)}: addresses of the kind {scheme}:// are not read; download the file, or use "
            f"{' or '.join(f'{known}://bucket/key' for known in KEYS)}"
        )
    if "@" in rest.split("/", 1)[0]:
        raise SourceError(
            f"{_without_key(location)}: a key in an address ends up in files and logs; take it out and set "
            f"{KEYS[scheme]}"
        )
    if not rest.partition("/")[2]:
        raise SourceError(f"{location}: names no object; write {scheme}://bucket/key")
    return True


def download(location: str, scratch: Path) -> list[Part]:
    """Copy an object, or all that a pattern or a folder (a trailing /) names, in the order of their keys.

    Raises:
        SourceError: the store refuses the key, or has no such bucket or object.
        SourceAway: the store cannot be reached now.
    """
    parts = []
    with explained(location):
        store, infos = _matching(location)
        for info in infos:
            target = new_file(scratch)
            with store.open_input_stream(info.path, compression=None) as file, target.open("wb") as out:
                shutil.copyfileobj(file, out, BLOCK_BYTES)
            if target.stat().st_size != info.size:
                raise SourceError(f"{location}: {info.path} changed while it was copied; run again")
            parts.append(Part(f"{location.partition('://')[0]}://{info.path}", target))
    return parts


def object_fingerprints(location: str) -> list[str]:
    """Path, size and version tag of each object that `download` would copy: they change whenever its content does.

    Raises:
        SourceError: as `download`.
    """
    found = []
    with explained(location):
        store, infos = _matching(location)
        for info in infos:
            with store.open_input_stream(info.path, compression=None) as file:
                headers = {_word(key).lower(): _word(value) for key, value in (file.metadata() or {}).items()}
            # A store without tags at least has the time of the last change.
            found.append(f"{info.path} {info.size} {headers.get('etag') or info.mtime_ns}")
    return found


def _word(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _matching(location: str) -> tuple[fs.FileSystem, list[fs.FileInfo]]:
    scheme, _, path = location.partition("://")
    store = store_of(scheme, path.split("/", 1)[0])
    if GLOB.search(path) or path.endswith("/"):
        pattern = path + "*" if path.endswith("/") else path
        # Everything below the last folder before the first wildcard.
        base = pattern[: GLOB.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
        if not base:
            raise SourceError(f"{location}: a pattern in the bucket's name; name one bucket")
        below = store.get_file_info(fs.FileSelector(base, allow_not_found=True, recursive=True))
        found = [info for info in below if info.type == fs.FileType.File and _matches(info.path, pattern)]
    else:
        found = [info for info in store.get_file_info([path]) if info.type == fs.FileType.File]
    if not found:
        bucket = path.split("/", 1)[0]
        (there,) = store.get_file_info([bucket])
        if there.type == fs.FileType.NotFound:
            raise SourceError(f"{location}: no bucket {bucket!r}; {IN_THE_MAPPING}")
        raise SourceError(f"{location}: no such object in bucket {bucket!r}; {IN_THE_MAPPING}")
    return store, sorted(found, key=lambda info: str(info.path))


def _matches(path: str, pattern: str) -> bool:
    """Whether a key matches folder by folder, as a path on disk does."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


def store_of(scheme: str, bucket: str) -> fs.FileSystem:
    """The store with a bucket."""
    if scheme == "gs":
        # The default goes on trying for 15 minutes.
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=GIVE_UP_S))
    # pyarrow takes keys from the environment, but not the endpoint. A bucket of AWS knows its own region.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region or (None if endpoint else fs.resolve_s3_region(bucket)),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        connect_timeout=CONNECT_S,
        request_timeout=REQUEST_S,
    )


@contextmanager
def explained(location: str, *, remedy: str = IN_THE_MAPPING) -> Iterator[None]:
    """Turn the store's errors into one sentence without the request and its signature.

    Args:
        location: an address, or a path of this machine.
        remedy: what to do where the bucket does not exist.
    """
    try:
        yield
    except OSError as error:
        problem, scheme = str(error), location.partition("://")[0]
        if scheme not in KEYS:
            raise SourceError(f"{location}: {error.strerror or first_line(error)[:200]}") from None
        if re.search(
            r"ACCESS_DENIED|SIGNATURE|INVALID_ACCESS_KEY|HTTP response code: 40[13]|Forbidden|Unauthorized",
            problem,
            re.I,
        ):
            reason = f"the store refuses the key; check {KEYS[scheme]} and its rights"
        elif re.search(r"NETWORK_CONNECTION|curlCode|resolve host|connect", problem, re.I):
            settings = "the network, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION" if scheme == "s3" else "the network"
            raise SourceAway(f"{location}: the store cannot be reached; check {settings}") from None
        elif re.search(r"NO_SUCH_BUCKET|bucket does not exist|Bucket .* not found", problem, re.I):
            reason = f"no such bucket; {remedy}"
        else:
            reason = f"the object cannot be read ({first_line(error)[:200]})"
        raise SourceError(f"{location}: {reason}") from None


def _without_key(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
