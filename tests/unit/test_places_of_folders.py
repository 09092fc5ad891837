"""A folder of this machine and one of an object store are written, read and removed alike."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recommender.datasets.places import Place
from recommender.datasets.reading.objects import explained
from recommender.datasets.replacing import MARKER, replace_remote, require_replaceable
from recommender.errors import CorruptFileError, SettingsError, SourceError
from recommender.features.between import build_between
from recommender.features.spark.parts import KEPT, new_parts
from recommender.settings import Settings
from recommender.storage.manifest import MANIFEST, write_manifest


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place.of(str(tmp_path / "place"))
    return Place.of(f"s3://{request.getfixturevalue('bucket')}/place")


def test_a_folder_is_moved_there_whole_and_read_back(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "rows").write_bytes(b"rows")
    (folder / MANIFEST).write_bytes(b"{}")
    place.write_folder(folder)
    assert [file for file in folder.rglob("*") if file.is_file()] == []
    with place.opened("inner/rows") as opened:
        assert opened.size() == 4
    assert place.read("inner/rows", tmp_path / "copy").read_bytes() == b"rows"
    assert place.read(MANIFEST, tmp_path / "copy").read_bytes() == b"{}"


def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"rows")
    place.write(tmp_path / "file", "rows")
    place.remove()
    place.remove()
    with pytest.raises(SourceError, match="place"), place.opened("rows"):
        pass


def test_a_relative_path_is_the_same_folder_for_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Place.of("tables").path == tmp_path / "tables"
    assert Place.of("s3://shop/tables").location == "s3://shop/tables"


@pytest.mark.parametrize("address", ["file:///data/tables", "s3://shop", "s3://shop/", "s3://key:word@shop/tables"])
def test_an_address_that_is_not_read_or_names_a_whole_bucket_is_refused(address: str) -> None:
    with pytest.raises(SourceError):
        Place.of(address)


@pytest.mark.parametrize("output", ["s3://shop/tables", "s3://shop/tables/features", "s3://shop/tables/"])
def test_features_do_not_take_the_place_of_their_tables(output: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--output {output}: ")):
        build_between("s3://shop/tables", output, Settings())


def test_features_take_the_place_of_features_only(place: Place, tmp_path: Path) -> None:
    put(place, tmp_path, {"photos/1.jpg": b"photo", "photos/2.jpg": b"photo"})
    with pytest.raises(SettingsError, match=r"--output .*place: .*photos/1\.jpg and 1 more files there") as refused:
        build_between(str(tmp_path / "absent"), place.location, Settings())
    assert "name another folder" in str(refused.value)
    assert list(place.files()) == ["photos/1.jpg", "photos/2.jpg"]
    place.remove()
    manifest = {"kind": "features", "files": {"users.parquet": {"sha256": "", "bytes": 5}}}
    put(place, tmp_path, {"users.parquet": b"users", MANIFEST: json.dumps(manifest).encode()})
    assert require_replaceable(place, "feature set", is_features) == {"users.parquet", MANIFEST}
    with pytest.raises(SettingsError, match=r"manifest\.json and 1 more files"):
        require_replaceable(place, "folder of tables", lambda found: "contract_version" in found)
    put(place, tmp_path, {"notes.txt": b"mine"})
    with pytest.raises(SettingsError, match=r"notes\.txt there belongs to no feature set"):
        require_replaceable(place, "feature set", is_features)


def test_a_file_in_place_of_the_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features").write_bytes(b"mine")
    with pytest.raises(SettingsError, match=r"features: this is a file"):
        build_between(str(tmp_path / "absent"), str(tmp_path / "features"), Settings())


def test_a_feature_set_that_was_replaced_half_way_in_a_bucket_is_replaced_by_the_next_build(
    bucket: str, tmp_path: Path
) -> None:
    place, made = Place.of(f"s3://{bucket}/place"), tmp_path / "made"
    put(place, tmp_path, {MARKER: json.dumps(["old", "new", MANIFEST]).encode(), "old": b"1", "new": b"2"})
    made.mkdir()
    (made / "newest").write_bytes(b"3")
    write_manifest(made, kind="features")
    replace_remote(place, made, "feature set", is_features)
    assert list(place.files()) == [MANIFEST, "newest"]


def test_each_build_has_parts_of_its_own_and_sweeps_those_of_killed_ones(place: Place, tmp_path: Path) -> None:
    killed, running = new_parts(place), new_parts(place)
    assert killed != running
    for one in (killed, running):
        put(one, tmp_path, {"users-0.arrow": b"rows"})
    now = datetime.now(UTC)
    new_parts(place, now=now + KEPT / 2)
    assert list(killed.files()) == list(running.files()) == ["users-0.arrow"]
    new_parts(place, now=now + KEPT + timedelta(hours=1))
    assert list(killed.files()) == list(running.files()) == []
    assert Place(place.location.rpartition("/")[0]).folders() == []


def test_a_driver_finds_copied_tables_that_are_not_those_of_their_manifest(bucket: str, tmp_path: Path) -> None:
    tables = tmp_path / "made"
    for name in ("campaigns", "events"):
        (tables / name).mkdir(parents=True)
        (tables / name / "part.parquet").write_bytes(b"rows")
    write_manifest(tables, contract_version=1)
    (tables / "campaigns" / "part.parquet").write_bytes(b"ro")
    Place.of(f"s3://{bucket}/tables").write_folder(tables)
    on_spark = Settings().updated(features={"engine": "spark"})
    with pytest.raises(CorruptFileError, match=r"campaigns/part\.parquet: 2 bytes instead of 4"):
        build_between(f"s3://{bucket}/tables", str(tmp_path / "features"), on_spark)


def test_a_bucket_that_is_missing_is_no_matter_of_the_mapping_and_a_path_needs_no_key(
    bucket: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as missing:
        Place.of(f"s3://no-{bucket}/tables").read(MANIFEST, tmp_path)
    assert "mapping" not in str(missing.value)
    with pytest.raises(SourceError, match=r"/shop/Forbidden: .*denied"), explained("/shop/Forbidden"):
        raise PermissionError(13, "Access denied", "/shop/Forbidden")


def put(place: Place, scratch: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (scratch / "draft").write_bytes(content)
        place.write(scratch / "draft", name)


def is_features(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("kind") == "features"
