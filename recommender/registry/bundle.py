"""Bundles: a trained ranker with everything that serving needs, written completely and verified before it is loaded.

Its files:

    weights.safetensors   every tensor; there are no pickles
    config.json           format, the ranker's name, its hyperparameters
    schema.json           the features that it was trained on, in order
    vocabulary.json       the values that its embeddings stand for, or a next-item ranker's items; {} if it has none
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
from recommender.models.campaign.calibration import Calibrator
from recommender.models.campaign.horizon_ranker import HorizonRanker, levels_of, timing_of
from recommender.models.campaign.ranker import Ranker
from recommender.models.campaign.schema import MAX_NAMED
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

FORMAT, CALIBRATED = 1, 2
"""Versions of the bundle's layout: the usual one, and that of a bundle whose probabilities a calibrator corrects. A
release without calibrators would misread the second, so it refuses it. Raise them when a reader of the old layout would
misread the new one."""
WEIGHTS = "weights.safetensors"
ITEM_BUNDLE = "next-item bundle"
UNSAFE_LOAD = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""With this environment variable torch loads pickles, which run code. Bundles are refused then."""
MISMATCH_ERRORS = (KeyError, TypeError, ValueError, IndexError, RuntimeError, SafetensorError)
"""Errors that restoring raises if weights do not belong to the configuration or vocabulary beside them."""


def save(ranker: Ranker[Any], folder: Path, *, lineage: Mapping[str, Any]) -> Path:
    """Write `ranker` as a bundle that replaces `folder` in one rename, and return `folder`.

    The same ranker and lineage give the same bytes.
    """
    config = dict(ranker.config())
    features, vocabulary = list(config.pop("feature_names", ())), config.pop("vocabulary", {})
    return _write(folder, "bundle", ranker, config, features, vocabulary, lineage)


def save_items(ranker: ItemRanker[Any], items: Items, folder: Path, *, lineage: Mapping[str, Any]) -> Path:
    """Write a next-item ranker with the names of its items, like `save`."""
    return _write(folder, ITEM_BUNDLE, ranker, ranker.config(), [], {"items": list(items.ids)}, lineage)


def require_replaceable(folder: Path) -> None:
    """Check that `save_items` can write to `folder` and would overwrite nothing but a bundle.

    Raises:
        SettingsError: it could not write, or would overwrite something else; names the path.
    """
    if not folder.name or not folder.absolute().parent.is_dir():
        raise SettingsError(f"{folder}: the parent folder does not exist; create it")
    require_short_name(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        kind, own = "file", set()
        if folder.is_dir():
            try:
                manifest = read_manifest(folder, verify=False)
                kind, own = str(manifest.get("kind")), {MANIFEST, *manifest["files"]}
            except CorruptFileError:
                kind = "folder without a manifest"
        if kind != ITEM_BUNDLE:
            raise SettingsError(
                f"{folder}: this is a {kind}, which a {ITEM_BUNDLE} would overwrite; name another folder"
            )
        foreign = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - own)
        if foreign:
            raise SettingsError(
                f"{folder / foreign[0]}: this file is not part of the bundle, and a new bundle would delete it; "
                "move it, or name another folder"
            )
    require_folder_takes_files(folder.absolute().parent)


def load(folder: Path, *, feature_names: Sequence[str] | None = None) -> HorizonRanker:
    """Load the ranker of a bundle on the CPU after verifying every file's SHA-256.

    Its scores are probabilities over the horizon of each pair. A bundle that was saved without timing takes the prior.

    Args:
        folder: the bundle.
        feature_names: the features that it will be given. Where they lack some that it was trained on, it is refused
            here instead of at the first request. Those that it does not know harm nothing (`models.campaign.schema`).

    Raises:
        CorruptFileError: a file is missing, truncated or altered; names it.
        BundleError: the bundle has another format or another kind, its ranker is unknown or needs a package that is not
            installed, features that it was trained on are missing, its tensors do not fit its configuration, or the
            environment allows pickled weights.
    """
    stored = _read_config(folder, "bundle")
    trained_on = tuple(_json(folder / "schema.json")["features"])
    missing = [] if feature_names is None else [name for name in trained_on if name not in set(feature_names)]
    if missing:
        raise BundleError(
            f"{folder}: features that the ranker was trained on are missing: {', '.join(missing[:MAX_NAMED])}; "
            "train again, or build the features with the code that it was trained with"
        )
    config = {
        **stored["config"],
        "feature_names": list(trained_on),
        "vocabulary": _json(folder / "vocabulary.json"),
    }
    inside: Ranker[Any] = _restore(folder, str(stored.get("ranker")), ranker_class, config)
    try:
        tensors = load_file(folder / WEIGHTS)
        return HorizonRanker(inside, timing_of(tensors, config), levels_of(tensors), Calibrator.of(config))
    except MISMATCH_ERRORS as error:
        raise BundleError(
            f"{folder}: its timing, levels or calibrator do not fit its configuration ({error}); train again"
        ) from error


def load_items(folder: Path) -> tuple[ItemRanker[Any], Items]:
    """Load the next-item ranker that `save_items` wrote, on the CPU, and the names of its items.

    Raises:
        CorruptFileError: a file is missing, truncated or altered; names it.
        BundleError: as `load`, or the vocabulary has another number of items than the weights.
    """
    stored, vocabulary = _read_config(folder, ITEM_BUNDLE), folder / "vocabulary.json"
    ids = _json(vocabulary).get("items")
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids) or len(set(ids)) < len(ids):
        raise BundleError(f"{vocabulary}: items must be a list of different names; train again")
    ranker: ItemRanker[Any] = _restore(folder, str(stored.get("ranker")), item_ranker_class, stored["config"])
    items = Items(ids=tuple(ids))
    try:
        # A user without events: scoring one fails if weights and vocabulary have different sizes.
        ranker.score(Sequences(items, offsets=np.zeros(2, dtype=np.int64), items_T=np.zeros(0, dtype=np.int32)))
    except (BundleError, *MISMATCH_ERRORS) as error:
        raise BundleError(f"{folder}: weights and vocabulary do not belong together ({error}); train again") from error
    return ranker, items


def _write(
    folder: Path,
    kind: str,
    ranker: Ranker[Any] | ItemRanker[Any],
    config: Mapping[str, Any],
    features: list[str],
    vocabulary: Any,
    lineage: Mapping[str, Any],
) -> Path:
    calibrated = isinstance(ranker, HorizonRanker) and not ranker.calibrator.is_none
    layout = CALIBRATED if calibrated else FORMAT
    parts = {
        "config": {"format": layout, "ranker": ranker.name, "config": dict(config)},
        "schema": {"features": features},
        "vocabulary": vocabulary,
        "lineage": dict(lineage),
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(ranker.tensors().items())}
    with whole_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        # safetensors creates files that only their owner may read; give them the permissions of the others.
        (temporary / WEIGHTS).chmod(temporary.stat().st_mode & 0o666)
        for name, content in parts.items():
            write_text(temporary / f"{name}.json", json.dumps(content, indent=1, sort_keys=True, default=str))
        write_manifest(temporary, kind=kind, format=layout, ranker=ranker.name)
    return folder


def _read_config(folder: Path, kind: str) -> dict[str, Any]:
    """Verify a bundle's files and return its config.json."""
    if os.environ.get(UNSAFE_LOAD, "0") not in ("", "0"):
        raise BundleError(f"{UNSAFE_LOAD} is set, which lets files of weights run code; unset it and start again")
    manifest = read_manifest(folder, verify=True)
    if manifest.get("kind") != kind:
        raise BundleError(f"{folder}: must be a {kind} (got a {manifest.get('kind')}); name another folder")
    stored = _json(folder / "config.json")
    if stored.get("format") not in (FORMAT, CALIBRATED):
        raise BundleError(
            f"{folder / 'config.json'}: format must be {FORMAT} or {CALIBRATED} (got {stored.get('format')!r}); "
            "install the release that wrote it, or train again"
        )
    return stored


def _restore(folder: Path, name: str, class_of: Callable[[str], Any], config: Mapping[str, Any]) -> Any:
    try:
        return class_of(name).restore(load_file(folder / WEIGHTS), config)
    except ImportError as error:
        raise BundleError(
            f"{folder}: the ranker {name!r} needs a package that is not installed here ({error}); "
            f"install it: pip install {error.name}"
        ) from error
    except MISMATCH_ERRORS as error:
        raise BundleError(
            f"{folder}: weights and configuration do not belong together ({error}); train again"
        ) from error


def lineage(folder: Path) -> dict[str, Any]:
    """Return where a bundle came from, as given to `save`."""
    read_manifest(folder, verify=False)
    return _json(folder / "lineage.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read as JSON ({error}); train again") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path}: must be a JSON object (got {type(content).__name__}); train again")
    return content
