"""A build that is told to use Spark where it is not installed says so in one sentence."""

import sys
from pathlib import Path

import pytest

from recommender.datasets import ingest
from recommender.errors import SettingsError
from recommender.features import build_as_set
from recommender.settings import Settings, SourceSettings

SHOP = {"num_users": 120, "num_items": 60, "num_campaigns": 12, "num_categories": 5, "days": 200}


def test_spark_without_its_extra_is_an_error_that_names_the_setting_and_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    for name in [name for name in sys.modules if name.startswith("recommender.features.spark.")]:
        monkeypatch.delitem(sys.modules, name)
    source = SourceSettings(dataset="synthetic", synthetic=SHOP)
    settings = Settings(home=tmp_path / "home", source=source).updated(features={"engine": "spark"})
    tables = ingest(source, tmp_path / "tables")
    with pytest.raises(SettingsError, match=r"features\.engine: .*extra `spark`"):
        build_as_set(tables, tmp_path / "features", settings)
    assert not (tmp_path / "features").exists()
