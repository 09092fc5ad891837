"""The TorchServe archive (.mar) of one version: its verified bundle and a manifest that names the handler.

An archive holds no code. Its handler is the installed `serving.worker.handler`, so the image alone decides which code
runs and a model archive cannot bring its own. The same bundle gives the same bytes; torch-model-archiver stamps the
time into the zip.
"""

import json
import shutil
import zipfile
from pathlib import Path

from recommender.errors import ServingError
from recommender.storage.manifest import MANIFEST, read_manifest, write_bytes

MODEL_NAME = "campaign_ranker"
HANDLER = "serving.worker.handler"
BUNDLE = "bundle"
CANNOT_LOAD = "version cannot be loaded"
"""Event by which the deployer finds the reason in TorchServe's log. TorchServe itself does not tell it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_MODE = 0o644
"""What a umask of 022 gives a file: all may read it. Fixed, so that the same bundle gives the same bytes."""
_MODE_SHIFT = 16
"""A zip entry keeps the Unix mode in the upper half of its external attributes."""


def archive_name(version: str) -> str:
    """File name of a version's archive in the model store."""
    return f"{MODEL_NAME}-{version}.mar"


def build_archive(bundle: Path, output: Path, *, version: str) -> Path:
    """Verify `bundle`, write its archive to the file `output` (whole or not at all), and return `output`.

    Raises:
        CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
        ServingError: The version contains characters that TorchServe's URLs cannot hold.
    """
    check_version(version)
    names = [*sorted(read_manifest(bundle)["files"]), MANIFEST]
    members = {f"{BUNDLE}/{name}": (bundle / name).read_bytes() for name in names}
    return write_archive(members, output, version=version, handler=HANDLER)


def check_version(version: str) -> str:
    """The version, if it can stand in a URL and as a folder's name.

    Raises:
        ServingError: It contains other characters.
    """
    if not version.strip(".") or not all(character.isalnum() or character in "-_." for character in version):
        raise ServingError(f"version {version!r}: a URL and a folder can hold only letters, digits, '-', '_' and '.'")
    return version


def copy_bundle(bundle: Path, output: Path) -> Path:
    """Verify `bundle`, copy it to the folder `output` (whole or not at all), and return `output`.

    The name of `output` is the version, and a folder that is there already is that version's.

    Raises:
        CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
        ServingError: The version contains characters that a folder's name should not hold.
    """
    check_version(output.name)
    names = [*sorted(read_manifest(bundle)["files"]), MANIFEST]
    temporary = output.with_name(f".{output.name}.copy")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in names:
        target = temporary / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target)
    shutil.rmtree(output, ignore_errors=True)
    temporary.rename(output)
    return output


def write_archive(
    members: dict[str, bytes], output: Path, *, version: str, handler: str, name: str = MODEL_NAME
) -> Path:
    """Write a .mar of `members`: a zip with fixed times, not deflated because weights do not shrink."""
    manifest = {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {"modelName": name, "handler": handler, "modelVersion": version},
        "archiverVersion": "0.12.0",
    }
    everything = {**members, "MAR-INF/MANIFEST.json": json.dumps(manifest, indent=2, sort_keys=True).encode()}
    temporary = output.with_name(f".{output.name}.zip")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for member in sorted(everything):
                entry = zipfile.ZipInfo(member, date_time=_EPOCH)
                entry.external_attr = _MODE << _MODE_SHIFT
                archive.writestr(entry, everything[member])
        write_bytes(output, temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)
    return output
