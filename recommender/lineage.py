"""Which code made a thing: the identity that versions, lineages and cache keys name."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recommender.manifest import digest, sha256


@cache
def code_version() -> str:
    """Release and a short hash of the core's source files: the same installed code says the same everywhere.

    A hash of the files, not of a commit: an image carries no repository, and a changed checkout is other code.
    """
    package = Path(__file__).parent
    sources = {path.relative_to(package).as_posix(): sha256(path) for path in sorted(package.rglob("*.py"))}
    try:
        release = version("campaign-recommender")
    except PackageNotFoundError:
        release = "0"
    return f"{release}+{digest(sources)[:10]}"
