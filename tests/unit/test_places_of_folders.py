"""A folder of this machine and one of an object store are written, read and removed alike."""

import re
from pathlib import Path

import pytest

from recommender.datasets.places import Place
from recommender.errors import SettingsError, SourceError
from recommender.features.between import build_between
from recommender.settings import Settings
from recommender.storage.manifest import MANIFEST


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
