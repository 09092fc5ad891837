"""Builds a feature set from tables in a folder or an object store into a folder or an object store."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recommender.datasets.places import Place
from recommender.datasets.replacing import replace_remote, require_replaceable
from recommender.datasets.tables import Tables, open_tables
from recommender.errors import SettingsError
from recommender.features.build_as_set import build_as_set
from recommender.settings import Settings
from recommender.storage.manifest import MANIFEST, read_manifest
from recommender.storage.scratch import scratch_folder

WHAT = "feature set"


def build_between(tables: str, output: str, settings: Settings) -> datetime:
    """Build the feature set of `tables` into `output`, each a folder or an address such as s3://shop/tables.

    Every engine reads and writes both. Spark's executors read an object store themselves; its driver copies what the
    periods are chosen by: everything but users and events. Returns the set's `as_of`.

    Raises:
        SettingsError: one of them lies in the other, and the output takes the place of all that is there. Or there is
            something else than an earlier feature set.
        CorruptFileError: the tables are not what their manifest says.
        SourceError: a store refuses the key, or has no such object.
        SourceAway: a store cannot be reached now.
    """
    source, target = Place.of(tables), Place.of(output)
    ours, theirs = (f"{one.location.rstrip('/')}/" for one in (target, source))
    if ours.startswith(theirs) or theirs.startswith(ours):
        raise SettingsError(
            f"--output {output}: what is there is replaced as a whole, and --tables {tables} "
            f"{'is the same folder' if ours == theirs else 'and it lie in one another'}; name another folder"
        )
    require_replaceable(target, WHAT, _is_feature_set)
    with scratch_folder("between", settings.resources.scratch) as folder:
        scratch = Path(folder)
        opened = _copied(source, scratch / "tables", settings) if source.is_remote else open_tables(source.path)
        if not target.is_remote:
            return build_as_set(opened, target.path, settings, files=source)
        built = scratch / "features"
        as_of = build_as_set(opened, built, settings, files=source, target=target)
        replace_remote(target, built, WHAT, _is_feature_set)
    return as_of


def _is_feature_set(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("kind") == "features"


def _copied(source: Place, folder: Path, settings: Settings) -> Tables:
    source.read(MANIFEST, folder)
    tables = Tables(folder)
    on_executors = ("users/", "events/") if settings.features.engine == "spark" else ()
    for name in tables.manifest["files"]:
        if not name.startswith(on_executors):
            source.read(name, folder)
    read_manifest(folder, leave_out=on_executors)
    return tables
