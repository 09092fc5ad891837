"""Bundles: a trained ranker with everything that serving needs, written whole, verified before it is loaded.

weights.safetensors   every tensor; no pickle anywhere
config.json           format, the ranker's name, its hyper-parameters
schema.json           the features it was trained on, in order
vocabulary.json       the values (strings) that its embeddings stand for, a next-item ranker's items; {} where it has none
lineage.json          data hash, configuration, code version, boundary
manifest.json         SHA-256 and size of all of these
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recommender.errors import BundleError, CorruptFileError, SettingsError
from recommender.models.campaign import ranker_class
from recommender.models.campaign.ranker import Ranker
from recommender.models.next_item import ItemRanker, item_ranker_class
from recommender.sequences import Items, Sequences
from recommender.storage.manifest import (
    MANIFEST,
    read_manifest,
    require_folder_takes_files,
    require_short_name,
    whole_folder,
    write_manifest,
    write_text,
)

FORMAT = 1
WEIGHTS = "weights.safetensors"
ITEM_BUNDLE = "next-item bundle"
UNSAFE_LOAD = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
MISFITS = (KeyError, TypeError, ValueError, IndexError, RuntimeError, SafetensorError)
"""What comes of weights beside a configuration or a vocabulary that is not theirs."""


def save(ranker: Ranker, folder: Path, *, lineage: Mapping[str, Any]) -> Path:
    """Write `ranker` as a bundle that takes the place of `folder` in one rename; returns `folder`.

    The same ranker and lineage give the same bytes.
    """
    config = dict(ranker.config())
    features, vocabulary = list(config.pop("feature_names", ())), config.pop("vocabulary", {})
    return _write(folder, "bundle", ranker, config, features, vocabulary, lineage)


def save_items(ranker: ItemRanker[Any], items: Items, folder: Path, *, lineage: Mapping[str, Any]) -> Path:
    """Write a next-item ranker with the names of its items, as `save`."""
    return _write(folder, ITEM_BUNDLE, ranker, ranker.config(), [], {"items": list(items.ids)}, lineage)


def require_replaceable(folder: Path) -> None:
    """Raises SettingsError where `save_items` would destroy something that is not a bundle, or cannot write."""
    if not folder.name or not folder.absolute().parent.is_dir():
        raise SettingsError(f"{folder}: a bundle needs a folder of its own, in a folder that is there")
    require_short_name(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        kind, own = "file", set()
        if folder.is_dir():
            try:
                manifest = read_manifest(folder, verify=False)
                kind, own = str(manifest.get("kind")), {MANIFEST, *manifest["files"]}
            except CorruptFileError:
                kind = "folder of something else"
        if kind != ITEM_BUNDLE:
            raise SettingsError(f"{folder}: this is a {kind}, which a {ITEM_BUNDLE} would destroy; name another folder")
        strange = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - own)
        if strange:
            raise SettingsError(
                f"{folder / strange[0]}: this is none of the bundle's files, and a new bundle would destroy it"
            )
    require_folder_takes_files(folder.absolute().parent)


def load(folder: Path, *, feature_names: Sequence[str] | None = None) -> Ranker:
    """The ranker of a bundle, on CPU, after every file's SHA-256 was checked.

    `feature_names`: the features that this process will give it; another schema is refused here and not at the first request.

    Raises:
        CorruptFileError: a file is missing, truncated or altered; names it.
        BundleError: a newer format, an unknown ranker or one whose library is missing, another feature schema, tensors that do
            not fit the configuration, a bundle of a next-item ranker alone, or an environment that allows pickled weights.
    """
    stored = _verified(folder, "bundle")
    trained_on = tuple(_json(folder / "schema.json")["features"])
    if feature_names is not None and trained_on and tuple(feature_names) != trained_on:
        raise BundleError(f"{folder}: trained on other features: {_difference(trained_on, tuple(feature_names))}")
    config = {
        **stored["config"],
        "feature_names": list(trained_on),
        "vocabulary": _json(folder / "vocabulary.json"),
    }
    ranker: Ranker = _restored(folder, str(stored.get("ranker")), ranker_class, config)
    return ranker


def load_items(folder: Path) -> tuple[ItemRanker[Any], Items]:
    """The next-item ranker that `save_items` wrote, on CPU, and its items by name.

    Raises:
        CorruptFileError, BundleError: as `load`, or the vocabulary is not of as many items as the weights.
    """
    stored, vocabulary = _verified(folder, ITEM_BUNDLE), folder / "vocabulary.json"
    ids = _json(vocabulary).get("items")
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids) or len(set(ids)) < len(ids):
        raise BundleError(f"{vocabulary}: `items` is not a list of names that all differ. Train again.")
    ranker: ItemRanker[Any] = _restored(folder, str(stored.get("ranker")), item_ranker_class, stored["config"])
    items = Items(ids=tuple(ids))
    try:
        ranker.score(Sequences(items, offsets=np.zeros(2, dtype=np.int64), items_T=np.zeros(0, dtype=np.int32)))
    except (BundleError, *MISFITS) as error:
        raise BundleError(f"{folder}: weights and vocabulary do not fit together ({error}). Train again.") from error
    return ranker, items


def _write(
    folder: Path,
    kind: str,
    ranker: Ranker | ItemRanker[Any],
    config: Mapping[str, Any],
    features: list[str],
    vocabulary: Any,
    lineage: Mapping[str, Any],
) -> Path:
    parts = {
        "config": {"format": FORMAT, "ranker": ranker.name, "config": dict(config)},
        "schema": {"features": features},
        "vocabulary": vocabulary,
        "lineage": dict(lineage),
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(ranker.tensors().items())}
    with whole_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod(temporary.stat().st_mode & 0o666)  # safetensors lets nobody else read
        for name, content in parts.items():
            write_text(temporary / f"{name}.json", json.dumps(content, indent=1, sort_keys=True, default=str))
        write_manifest(temporary, kind=kind, format=FORMAT, ranker=ranker.name)
    return folder


def _verified(folder: Path, kind: str) -> dict[str, Any]:
    """A bundle's config.json, its files verified."""
    if os.environ.get(UNSAFE_LOAD, "0") not in ("", "0"):
        raise BundleError(f"{UNSAFE_LOAD} is set: it lets files of weights run code. Unset it and start again.")
    found = read_manifest(folder, verify=True)
    if found.get("kind") != kind:
        raise BundleError(f"{folder}: this is a {found.get('kind')}, not a {kind}.")
    stored = _json(folder / "config.json")
    if stored.get("format") != FORMAT:
        raise BundleError(
            f"{folder / 'config.json'}: bundle format {stored.get('format')!r}, this code reads {FORMAT}. "
            "Install the release that wrote it, or train again."
        )
    return stored


def _restored(folder: Path, name: str, class_of: Callable[[str], Any], config: Mapping[str, Any]) -> Any:
    try:
        return class_of(name).restore(load_file(folder / WEIGHTS), config)
    except ImportError as error:
        raise BundleError(
            f"{folder}: the ranker {name!r} needs a package that is not installed here ({error}). "
            f"Install it: pip install {error.name}"
        ) from error
    except MISFITS as error:
        raise BundleError(f"{folder}: weights and configuration do not fit together ({error}). Train again.") from error


def lineage(folder: Path) -> dict[str, Any]:
    """Where a bundle came from: what `save` was given."""
    read_manifest(folder, verify=False)
    return _json(folder / "lineage.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not readable as JSON ({error}). Train again.") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path}: expected an object, found {type(content).__name__}. Train again.")
    return content


def _difference(trained: tuple[str, ...], given: tuple[str, ...]) -> str:
    missing = [name for name in trained if name not in set(given)]
    extra = [name for name in given if name not in set(trained)]
    if not missing and not extra:
        return "the same names in another order"
    return f"missing {missing[:5] or 'none'}, unknown {extra[:5] or 'none'}. Build the features with the code it was trained with."
