"""A lock that cannot be had for another reason than its holder is one sentence, not a traceback."""

import os
from pathlib import Path

import pytest

from recommender.errors import SettingsError
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.in_use import in_use
from recommender.storage.locks import lock
from recommender.storage.turns import lock_of, turn


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"a file")
    home = Home.of(Settings(home=tmp_path / "home"))
    with pytest.raises(SettingsError, match=r"home/\.in-use: .*cannot be written \(.+\); give"), in_use(home):
        pass
    lock_of(tmp_path / "days").mkdir()
    with pytest.raises(SettingsError, match=r"\.days\.lock: .*cannot be written"), turn(tmp_path / "days"):
        pass


def test_a_file_system_without_locks_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"")
    # Linux locks no file that was opened as a mere path, as NFS without a lock service locks none.
    with (
        os.fdopen(os.open(tmp_path / "lock", os.O_PATH), "rb", buffering=0) as file,
        pytest.raises(SettingsError, match=r"cannot be locked \(.+\); `home` needs a file system with locks"),
    ):
        lock(file)
