"""Builds a feature set from tables in a folder or an object store into a folder or an object store."""

from datetime import datetime
from pathlib import Path

from recommender.datasets.places import Place
from recommender.datasets.tables import Tables, open_tables
from recommender.errors import SettingsError
from recommender.features.build import build_as_set
from recommender.settings import Settings
from recommender.storage.manifest import MANIFEST
from recommender.storage.scratch import scratch_folder


def build_between(tables: str, output: str, settings: Settings) -> datetime:
    """Build the feature set of `tables` into `output`, each a folder or an address such as s3://shop/tables.

    Every engine reads and writes both. Spark's executors read an object store themselves; its driver copies what the
    periods are chosen by: everything but users and events. Returns the set's `as_of`.

    Raises:
        SettingsError: one of them lies in the other, and the output takes the place of all that is there.
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
    with scratch_folder("between", settings.resources.scratch) as folder:
        scratch = Path(folder)
        opened = _copied(source, scratch / "tables", settings) if source.is_remote else open_tables(source.path)
        if not target.is_remote:
            return build_as_set(opened, target.path, settings, files=source)
        built, parts = scratch / "features", Place(f"{output.rstrip('/')}.parts")
        as_of = build_as_set(opened, built, settings, files=source, parts=parts)
        target.remove()
        target.write_folder(built)
    return as_of


def _copied(source: Place, folder: Path, settings: Settings) -> Tables:
    source.read(MANIFEST, folder)
    tables = Tables(folder)
    on_executors = ("users/", "events/") if settings.features.engine == "spark" else ()
    for name in tables.manifest["files"]:
        if not name.startswith(on_executors):
            source.read(name, folder)
    return tables if on_executors else open_tables(folder)
