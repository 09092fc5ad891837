"""The code on the how-to pages is applied to a copy of the project, as a reader would, and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recommender.storage.code_identity import OWN_PACKAGES

ROOT = Path(__file__).parents[2]
RECOMMENDER = (sys.executable, "-c", "from cli.main import app; app()")
BLOCK = re.compile(
    r'^```python title="(?P<file>[^" ]+)(?: \(one (?:line in (?P<table>\w+)|(?P<import>import))\))?"\n'
    r"(?P<code>.*?)^```$",
    re.M | re.S,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's packages and of the tests' helpers."""
    folder = tmp_path / "project"
    for package in OWN_PACKAGES:
        if (ROOT / package).is_dir():
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/unit/random_examples.py", folder)
    return folder


def apply(page: str, project: Path) -> set[str]:
    """Write the page's code blocks into `project`, and return the files that changed."""
    changed = set()
    for block in BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        file, table, code = project / block["file"], block["table"], block["code"]
        changed.add(block["file"])
        if block["import"]:
            text = file.read_text(encoding="utf-8")
            place = text.index("\nfrom recommender.") + 1
            file.write_text(text[:place] + code + text[place:], encoding="utf-8")
            continue
        if table is None:
            assert not file.exists(), f"{page}: {block['file']} exists already"
            file.write_text(code, encoding="utf-8")
            continue
        text = file.read_text(encoding="utf-8")
        opening = re.search(rf"^{table}\b[^\n]*{{\n", text, re.M)
        assert opening is not None, f"{page}: {block['file']} has no table {table}"
        file.write_text(text[: opening.end()] + code + text[opening.end() :], encoding="utf-8")
    return changed


def run(project: Path, *command: str) -> str:
    """The output of a command in the copy. The command must succeed."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


CAMPAIGN_RANKER = """
from pathlib import Path
from random_examples import random_examples
from recommender.engine.context import FitContext
from recommender.models.campaign import ranker_class
from recommender.registry import bundle

examples, labels = random_examples(num_pairs=200, num_users=40)
cls = ranker_class("one_feature")
config = cls.Config.parse({"feature": examples.feature_names[0]}, owner="one_feature")
ranker = cls.fit(examples, labels, corpus=examples.histories, config=config, context=FitContext())
bundle.save(ranker, Path("kept"), lineage={})
scores = bundle.load(Path("kept")).score(examples).redeem_N
assert (scores == ranker.score(examples).redeem_N).all()
assert scores.std() > 0
print(len(scores))
"""


def test_the_campaign_ranker_of_the_page_is_trained_kept_and_listed(project: Path) -> None:
    changed = apply("add-a-ranker.md", project)
    campaign = {name for name in changed if "/campaign/" in name}
    assert campaign == {"recommender/models/campaign/one_feature.py", "recommender/models/campaign/__init__.py"}
    assert run(project, sys.executable, "-c", CAMPAIGN_RANKER).split() == ["200"]
    listed = run(project, *RECOMMENDER, "rankers", "one_feature", "--json")
    assert "strength" in listed
    assert "affinity__product_type__coupon_per_month" in listed


NEXT_ITEM_RANKER = """
import numpy as np
from recommender.engine.context import FitContext
from recommender.models.campaign import RANKERS
from recommender.models.next_item import item_ranker_class
from recommender.sequences import Items, Sequences

cls = item_ranker_class("markov")
rows = np.tile(np.array([1, 2, 3, 4, 1, 2], dtype=np.int32), 20)
seen = Sequences(Items(ids=("a", "b", "c", "d")), np.arange(0, len(rows) + 1, 6), rows)
ranker = cls.fit(seen, held_out_U=None, config=cls.Config(), context=FitContext())
restored = cls.restore(ranker.tensors(), ranker.config())
scores = restored.score(seen)
assert (scores == ranker.score(seen)).all()
assert "markov" in RANKERS
print(scores.argmax(axis=1).tolist() == [3] * 20)
"""


def test_the_next_item_ranker_of_the_page_predicts_what_follows_and_ranks_campaigns_too(project: Path) -> None:
    apply("add-a-ranker.md", project)
    assert run(project, sys.executable, "-c", NEXT_ITEM_RANKER).split() == ["True"]
    events = project / "events.csv"
    lines = [f"user-{user},item-{(user + place) % 5},{place}" for user in range(60) for place in range(6)]
    events.write_text("\n".join(["user,item,pos", *lines]) + "\n", encoding="utf-8")
    fit = ("next-items", "fit", "--interactions", str(events), "--ranker", "markov", "--save", "kept")
    run(project, *RECOMMENDER, *fit)
    assert (project / "kept" / "weights.safetensors").is_file()


DATA_SOURCE = """
from pathlib import Path
from recommender.datasets import ingest
from recommender.datasets.synthetic import World, generate
from recommender.settings import SourceSettings
import pyarrow.parquet as pq

made = generate(World.small(num_users=60), Path("made"))
Path("export").mkdir()
for table in Path("made").iterdir():
    if table.is_dir() and table.name != "truth":
        pq.write_table(pq.read_table(table, partitioning=None), Path("export") / f"{table.name}.parquet")
read = ingest(SourceSettings(dataset="warehouse", mapping="export"), Path("tables"))
print(read.manifest["source"], read.manifest["rows"] == made.manifest["rows"])
"""


def test_the_data_source_of_the_page_ingests_an_export(project: Path) -> None:
    changed = apply("add-a-data-source.md", project)
    assert changed == {"recommender/datasets/warehouse.py", "recommender/datasets/sources.py"}
    assert run(project, sys.executable, "-c", DATA_SOURCE).split() == ["warehouse", "True"]
