"""MovieLens-100K as sequences with times. No hyperparameter was chosen on it, so its figures are those of a new set.

RecBole's wheel on PyPI contains the data; only that one file of the wheel is read.
"""

import shlex
import subprocess
import sys
from io import BytesIO
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import pandas as pd

from recommender.errors import SourceError

WHEEL, MEMBER = "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"


def ml_100k(folder: Path) -> tuple[Path, None]:
    """Write the events (user, item, timestamp in seconds) into `folder`, in the file's order. There are no attributes.

    The environment variable `PIP_ARGS` has more words for pip, as for `make install`.

    Raises:
        SourceError: The wheel cannot be downloaded, or lacks the file.
    """
    with TemporaryDirectory() as place:
        words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", place, WHEEL]
        command = [sys.executable, "-m", "pip", *words, *shlex.split(environ.get("PIP_ARGS", ""))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(place).glob("*.whl"))
        if done.returncode or not wheels:
            last_line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise SourceError(
                f"ml-100k: pip cannot download {WHEEL} ({last_line}); name an index or a folder of wheels in PIP_ARGS"
            )
        try:
            with ZipFile(wheels[0]) as wheel:
                table = pd.read_csv(BytesIO(wheel.read(MEMBER)), sep="\t")
        except (BadZipFile, KeyError) as error:
            raise SourceError(f"ml-100k: {wheels[0].name} has no readable {MEMBER} ({error})") from None
    names = {"user_id:token": "user", "item_id:token": "item", "timestamp:float": "timestamp"}
    events = folder / "ml-100k.parquet"
    table.rename(columns=names)[list(names.values())].to_parquet(events, index=False)
    return events, None
