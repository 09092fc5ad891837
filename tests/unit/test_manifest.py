"""Folders are written whole or not at all, and what is read is what was written."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recommender.errors import CorruptFileError
from recommender.storage.manifest import put_back, read_manifest, whole_folder, write_manifest

REPLACE = """
import os, signal, sys
from pathlib import Path
from recommender.storage import manifest

def kill_at(event, arguments):
    global left
    if event in ("os.rename", "os.rmdir", "os.remove"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

folder, left, exchanges = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if not exchanges:
    manifest._exchanged = lambda one, other: False
with manifest.whole_folder(folder) as draft:
    manifest.write_manifest(draft, kind="new")
    sys.addaudithook(kill_at)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "thing"
    with whole_folder(target) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "weights.bin").write_bytes(bytes(range(256)))
        (draft / "config.json").write_text("{}")
        write_manifest(draft, kind="test")
    return target


def test_a_whole_folder_verifies(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest["kind"] == "test"
    assert set(manifest["files"]) == {"sub/weights.bin", "config.json"}


def test_one_flipped_bit_is_found_and_the_file_named(folder: Path) -> None:
    file = folder / "sub" / "weights.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"weights\.bin.*SHA-256"):
        read_manifest(folder)


def test_a_truncated_file_is_found_and_named(folder: Path) -> None:
    file = folder / "sub" / "weights.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match=r"weights\.bin: 255 bytes instead of 256"):
        read_manifest(folder)


def test_a_missing_file_is_found_and_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CorruptFileError, match=r"config\.json: missing"):
        read_manifest(folder)


def test_a_folder_without_a_manifest_was_never_completely_written(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="never completely written"):
        read_manifest(tmp_path)


def test_the_same_content_has_the_same_hash_whatever_the_facts(tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("same")
        hashes.add(write_manifest(tmp_path / name, written_by=name)["content_hash"])
    assert len(hashes) == 1


def test_a_failed_write_leaves_the_previous_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(folder) as draft:
        (draft / "half").write_bytes((folder / "absent").read_bytes())
    assert read_manifest(folder)["kind"] == "test"
    assert [path.name for path in folder.parent.iterdir()] == ["thing"]


def test_a_killed_write_leaves_the_previous_folder(folder: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from recommender.storage.manifest import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as draft:\n"
        "    (draft / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(folder)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_manifest(folder)["kind"] == "test"


def age(folder: Path) -> None:
    """All in `folder` was touched an hour ago."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "a file system that cannot exchange"])
def test_a_kill_at_any_moment_of_the_replacement_leaves_a_whole_folder_and_the_next_writer_tidies_up(
    exchanges: bool, folder: Path
) -> None:
    kinds = []
    for moment in itertools.count(1):
        age(folder.parent)
        with whole_folder(folder) as draft:
            write_manifest(draft, kind="test")
        assert [path.name for path in folder.parent.iterdir()] == ["thing"]
        ended = subprocess.run([sys.executable, "-c", REPLACE, str(folder), str(moment), str(exchanges)], check=False)
        if not exchanges:
            put_back(folder)
        kinds.append(read_manifest(folder)["kind"])
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert len(kinds) > 2
    assert set(kinds) <= {"test", "new"}
    assert kinds[-1] == "new"


def test_what_a_living_writer_has_beside_the_folder_stays(folder: Path) -> None:
    with whole_folder(folder) as slow:
        (slow / "half").write_text("half")
        age(folder.parent)
        with whole_folder(folder) as quick:
            write_manifest(quick, kind="quick")
        assert (slow / "half").read_text() == "half"


def test_a_damaged_manifest_is_an_error_that_names_it(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256"', '"shb256"', 1))
    with pytest.raises(CorruptFileError, match=r"manifest\.json: not a manifest"):
        read_manifest(folder)


def test_a_whole_folder_gives_nobody_more_than_the_umask_does_whatever_its_sources_gave(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "table").write_text("1")
    for path in (source / "inner", source / "inner" / "table"):
        path.chmod(0o777)
    before = os.umask(0o027)
    try:
        with whole_folder(tmp_path / "copy") as draft:
            shutil.copytree(source, draft, dirs_exist_ok=True)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]}
    assert modes == {"copy": 0o750, "inner": 0o750, "table": 0o750}
