"""Spark builds the feature set that DuckDB builds: every table, to the last row, with the `spark` extra alone.

`make test` installs PySpark into .venv-spark, which holds nothing else. The Java is the extra's own.
"""

import os
import subprocess
from pathlib import Path

import pytest
from bare_environment import bare_environment
from equal_feature_sets import assert_equal_sets
from pyarrow import fs
from servers import ObjectStore

from recommender.datasets import ingest
from recommender.datasets.places import Place
from recommender.features import build_as_set
from recommender.settings import FeatureSettings, LookSettings, Settings, SourceSettings, SparkSettings
from recommender.storage.manifest import MANIFEST, read_manifest

ROOT = Path(__file__).parents[2]
PYSPARK = ROOT / ".venv-spark" / "lib" / "python3.11" / "site-packages"
SHOP = {"num_users": 120, "num_items": 60, "num_campaigns": 12, "num_categories": 5, "days": 200}
PROGRAM = "components.spark.build"
"""What the SparkApplication runs."""
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
CONF = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": JAVA,
}
"""Settings that spare the time of Java's and Spark's compilers, which pay on large data only."""


def settings_for(home: Path) -> Settings:
    return Settings(
        home=home,
        source=SourceSettings(dataset="synthetic", synthetic=SHOP),
        looks=LookSettings(encoder=False),  # its package is no part of the extra
        features=FeatureSettings(spark=SparkSettings(master="local[2]", buckets=2, conf=CONF)),
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with our wheel and the `spark` extra, and nothing else."""
    if not PYSPARK.is_dir():
        pytest.skip("needs .venv-spark, which `make test` makes")
    return bare_environment(
        tmp_path_factory.mktemp("bare"), extras=("spark",), dockerfile="components/Dockerfile", beside=PYSPARK
    )


@pytest.mark.slow
def test_spark_builds_what_duckdb_builds_from_an_object_store_into_one(
    tmp_path: Path, python: Path, bucket: str, object_store: ObjectStore
) -> None:
    settings = settings_for(tmp_path / "home")
    tables = ingest(settings.source, tmp_path / "tables")
    expected, built = tmp_path / "expected", tmp_path / "built"
    as_of = build_as_set(tables, expected, settings)
    stored, result = Place(f"s3://{bucket}/tables"), Place(f"s3://{bucket}/features")
    stored.write_folder(tables.folder)
    environment = {
        "RECOMMENDER__FEATURES": settings.features.model_copy(update={"engine": "spark"}).model_dump_json(),
        "RECOMMENDER__LOOKS__ENCODER": "false",
        "RECOMMENDER__HOME": str(tmp_path / "spark-home"),
        "RECOMMENDER__TIME__AS_OF": as_of.isoformat(),
        "OMP_NUM_THREADS": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "HOME": str(tmp_path),
        "PATH": os.defpath,
        **object_store.environment,
    }
    done = subprocess.run(
        [str(python), "-m", PROGRAM, f"--tables={stored.location}", f"--output={result.location}"],
        cwd=tmp_path,  # not the checkout, whose packages would be imported instead of the wheel's
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    for name in (MANIFEST, *read_manifest(expected)["files"]):
        result.read(name, built)
    assert_equal_sets(built, expected)
    left = object_store.files.get_file_info(fs.FileSelector(bucket, recursive=False))
    assert sorted(one.base_name for one in left) == ["features", "tables"], "the parts of executors are gone"
