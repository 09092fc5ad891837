"""The materialise step: a feature set becomes what Feast and serving read.

The order makes a kill at any moment harmless. Old rows, their layouts and the old catalogue stay until all new ones
are complete. Meanwhile old and new rows are readable, by the old catalogue as by the new one, because ids are
append-only. Running the step again ends where an undisturbed run ends.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import FILES, SERVING_FIELD, SERVING_VIEW, Definitions, define, portrait_names
from feature_repo.environment import open_store, store_folder
from feature_repo.online import newest_rows, write_online, write_packed
from feature_repo.online_stores import OnlineWriter, writer_of
from recommender import logs
from recommender.datasets.periods import microseconds
from recommender.errors import CorruptFileError, FeatureStoreError
from recommender.event_tables.forgotten_rows import copy_without
from recommender.events.tail import Readings, unread
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import ServingSchema
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import FACTS_FILE, FEATURES_SCHEMA_FILE, FeatureStoreFolder, Home
from recommender.storage.ids import IDS_FILE, Ids, IdsFile
from recommender.storage.in_use import in_use
from recommender.storage.locks import lock, lock_file
from recommender.storage.manifest import NAME_DIGITS, read_manifest, whole_folder, write_manifest

if TYPE_CHECKING:
    import numpy as np
    from feast import FeatureStore
    from numpy.typing import NDArray

log = logs.get(__name__)
OFFLINE_VARIABLE = "FEATURE_STORE_OFFLINE"
KEPT_LAYOUTS = 2
"""The new layout and the one before it, when all values are replaced: a server may have read a value just before."""


def materialise(features: Path, settings: Settings) -> FeatureStoreFolder:
    """Install the offline Parquet, apply the definitions, write the online values, then install the catalogue.

    Idempotent: running it again, also after a kill, ends in the same state. Reads go on meanwhile.

    Args:
        features: folder of a feature set (`recommender.features.build`).
        settings: name the home and the online store.

    Returns:
        The places of the store that was filled.

    Raises:
        CorruptFileError: a file of the feature set is not the one that its manifest names; nothing was changed.
        ContractError: the feature set lacks what serving needs; names the column.
        FeatureStoreError: another materialisation is running, or the online store refuses.
        StoreAway: the online store does not answer now; run it again.
    """
    import pyarrow.parquet as pq

    manifest = read_manifest(features)
    catalogue_hash = str(read_manifest(features / "catalogue")["content_hash"])
    as_of = as_of_of(features)
    names = portrait_names(pq.read_schema(features / FILES["user"]))
    rows_N = newest_rows(features / FILES["user"], as_of)
    folder, writer = store_folder(settings), writer_of(settings)
    schema = ServingSchema(
        project=settings.store.project,
        view=SERVING_VIEW,
        field=SERVING_FIELD,
        join_key="user_id",
        entity_key_serialization_version=3,
        layouts=(names,),
        features_hash=manifest["content_hash"],
        catalogue_hash=catalogue_hash,
        as_of=as_of.isoformat(),
    )
    with in_use(Home.of(settings)), _locked(folder):
        _keep_ids(features, settings)
        forgotten = Forgotten.of(Home.of(settings))
        _install_offline(features, folder.offline, rows_N, names, forgotten, content_hash=manifest["content_hash"])
        elsewhere = os.environ.get(OFFLINE_VARIABLE)
        if elsewhere:
            _upload(folder.offline, elsewhere)
        definitions = define(elsewhere or str(folder.offline), folder.offline)
        writer.prepare(settings)
        _set_broken_registry_aside(folder.feast_registry)
        store = open_store(settings)
        with writer.reached(settings):
            # Before the registry forgets that they were online, so that a killed run leaves nothing behind.
            writer.forget_views(store, [view for view in store.list_feature_views() if view.name != SERVING_VIEW])
            apply(store, definitions, keep=services_of_versions(Registry(settings.home)))
            _announce(schema, folder.root)
            _announce_reading(manifest.get("events_read"), as_of, folder)
            kept = write_online(store, definitions, folder.offline / FILES[SERVING_VIEW])
            removed = writer.forget_others(store, definitions, kept)
            trimmed = _trim_tails(writer, settings, store, as_of, folder, Catalogue.load(features / "catalogue"))
        install_catalogue(features / "catalogue", Home.of(settings), catalogue_hash)
        _forget_layouts(folder.root)
    log.info("materialised", users=len(rows_N), portrait_features=len(names), stale_rows_removed=removed, **trimmed)
    return folder


def apply(store: "FeatureStore", definitions: Definitions, *, keep: Set[str] | None = frozenset()) -> None:
    """Make Feast's registry hold these definitions, the services in `keep` (None: all), and nothing else of ours.

    A source without reviews has no view of them, and a service that no version was trained with is not kept.
    """
    current = {view.name for view in definitions.views}
    gone: list[Any] = [view for view in store.list_feature_views() if view.name not in current]
    if keep is not None:
        kept = {definitions.service.name, *keep}
        gone += [service for service in store.list_feature_services() if service.name not in kept]
    store.apply(definitions.everything, objects_to_delete=gone, partial=not gone)


def services_of_versions(registry: Registry) -> set[str] | None:
    """The feature services that the versions in the model registry were trained with. None: a version is damaged."""
    try:
        lineages = [registry.lineage(version) for version in registry.versions()]
    except CorruptFileError as error:
        log.warning("every feature service is kept", problem=str(error))
        return None
    return {str(lineage["feature_service"]) for lineage in lineages if lineage.get("feature_service")}


def as_of_of(features: Path) -> datetime:
    """The moment for which a feature set was built.

    Raises:
        FeatureStoreError: the feature set does not name it, or names it without a time zone.
    """
    stated = read_manifest(features, verify=False).get("as_of")
    schema = features / "schema.json"
    if stated is None and schema.is_file():
        stated = json.loads(schema.read_text(encoding="utf-8")).get("as_of")
    if stated is None:
        raise FeatureStoreError(f"{features}: its manifest names no as_of; build the features again")
    moment = datetime.fromisoformat(str(stated))
    if moment.tzinfo is None:
        raise FeatureStoreError(f"{features}: its as_of {stated} has no time zone; build the features again")
    return moment


def install_catalogue(source: Path, home: Home, content_hash: str) -> None:
    """Make the home's catalogue link to a copy of `source`: readers see the old catalogue or the new one, never none.

    The copy that it linked to before is kept, for readers that have it open.
    """
    link, versions = home.catalogue, home.catalogue_versions
    target = versions / content_hash[:NAME_DIGITS]
    if not _is_whole(target, content_hash):
        with whole_folder(target) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    previous = link.resolve() if link.is_symlink() else None
    temporary = link.with_name(f".{link.name}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(link.parent))
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary.replace(link)
    if previous != target.resolve():
        for folder in versions.iterdir():
            if folder.resolve() not in (target.resolve(), previous):
                shutil.rmtree(folder)


def _is_whole(folder: Path, content_hash: str) -> bool:
    try:
        return bool(read_manifest(folder)["content_hash"] == content_hash)
    except CorruptFileError:
        return False


@contextmanager
def _locked(store: FeatureStoreFolder) -> Iterator[None]:
    """Hold the store's lock: two runs at once would mix their rows. The kernel drops it when the process dies."""
    with lock_file(store.lock) as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FeatureStoreError(f"{store.root}: another materialisation is running; wait for it to end") from None
        for draft in store.root.glob(f".{store.offline.name}.*"):
            shutil.rmtree(draft)  # what a killed run left
        yield


def _install_offline(
    features: Path,
    offline: Path,
    rows_N: "NDArray[np.int64]",
    names: tuple[str, ...],
    forgotten: Forgotten,
    *,
    content_hash: str,
) -> None:
    """Copy the feature set's Parquet, and the packed values beside it, into the folder that Feast reads.

    Users who were forgotten since the feature set was built are left out.
    """
    with whole_folder(offline) as folder:
        files = [file for name, file in FILES.items() if name != SERVING_VIEW]
        if (features / FACTS_FILE).is_file():  # Feast does not know it: `recommender portrait` reads it.
            files.append(FACTS_FILE)
        for file in files:
            if forgotten.since:
                copy_without(features / file, folder / file, forgotten)
            else:
                shutil.copyfile(features / file, folder / file)
        if (features / FEATURES_SCHEMA_FILE).is_file():  # nor this, which says what the source cannot have
            shutil.copyfile(features / FEATURES_SCHEMA_FILE, folder / FEATURES_SCHEMA_FILE)
        packed = folder / FILES[SERVING_VIEW]
        if forgotten.since:
            draft = folder / f".{packed.name}"
            write_packed(features / FILES["user"], rows_N, names, draft)
            copy_without(draft, packed, forgotten)
            draft.unlink()
        else:
            write_packed(features / FILES["user"], rows_N, names, packed)
        write_manifest(folder, features_hash=content_hash)


def _upload(offline: Path, address: str) -> None:
    """Copy the offline files to `address` (s3://bucket/prefix, file:///folder) with the process's own credentials.

    Raises:
        FeatureStoreError: the address is not one that pyarrow knows, or cannot be written.
    """
    from pyarrow import fs

    try:
        there, folder = fs.FileSystem.from_uri(address)
        there.create_dir(folder, recursive=True)
        fs.copy_files(str(offline), folder, source_filesystem=fs.LocalFileSystem(), destination_filesystem=there)
    except (OSError, ValueError) as error:
        raise FeatureStoreError(f"{OFFLINE_VARIABLE}={address}: cannot be written ({error})") from None


def _announce_reading(read: Mapping[str, int] | None, as_of: datetime, folder: FeatureStoreFolder) -> None:
    """Say which events the new rows have read, before the first of them is written. Their tails then lose no other."""
    Readings.load(folder.events_read).with_reading(microseconds(as_of), read).save(folder.events_read)


def _trim_tails(
    writer: OnlineWriter,
    settings: Settings,
    store: "FeatureStore",
    as_of: datetime,
    folder: FeatureStoreFolder,
    catalogue: Catalogue,
) -> dict[str, int]:
    """Take from all tails what the rows of this moment have read. For the log: bytes taken, and bytes left."""
    readings, moment_us = Readings.load(folder.events_read), microseconds(as_of)
    ends_C = catalogue.campaign_ends_C
    still_open = {campaign for campaign, row in catalogue.campaign_rows.items() if ends_C[row] > moment_us}
    trimmed = writer.trim_tails(settings, store, lambda tail: unread(tail, moment_us, readings, still_open))
    return {"tail_bytes_removed": trimmed.num_bytes, "tail_bytes": trimmed.left_bytes}


def _announce(schema: ServingSchema, folder: Path) -> None:
    """Write the schema of the new values before the first of them is written. The previous layout stays readable."""
    known: tuple[tuple[str, ...], ...] = ()
    try:
        known = ServingSchema.load(folder).layouts
    except FeatureStoreError as error:
        log.info("no earlier serving schema kept", problem=str(error))
    (names,) = schema.layouts
    # All known ones: after killed runs the store may hold rows of more than two layouts.
    layouts = (names, *(layout for layout in known if layout != names))
    replace(schema, layouts=layouts).save(folder)


def _forget_layouts(folder: Path) -> None:
    """Take from the schema the layouts of which the store has no value any more."""
    schema = ServingSchema.load(folder)
    if len(schema.layouts) > KEPT_LAYOUTS:
        replace(schema, layouts=schema.layouts[:KEPT_LAYOUTS]).save(folder)


def _keep_ids(features: Path, settings: Settings) -> None:
    """Let the home number later items after those of this feature set, where that was built without the home's ids."""
    if (features / IDS_FILE).is_file() and not IdsFile.of(settings).follow(Ids.load(features / IDS_FILE)):
        log.warning(
            "the features were built with other ids than the home's; until the end users are unreadable",
            features=str(features),
            ids=str(IdsFile.of(settings).path),
        )


def _set_broken_registry_aside(registry: Path) -> None:
    """Move away a registry file that a kill cut off: Feast writes it in place, and all it holds is defined in code."""
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    if not registry.is_file():
        return
    try:
        Registry().ParseFromString(registry.read_bytes())
    except DecodeError:
        aside = registry.with_suffix(".broken")
        # A run was killed while Feast wrote the file.
        log.warning("Feast's registry is damaged and made anew", registry=str(registry), moved_to=str(aside))
        registry.replace(aside)
