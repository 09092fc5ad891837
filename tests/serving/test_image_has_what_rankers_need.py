"""What `.[serving]` installs is enough for a worker to load every ranker: nothing else that happens to be here is seen."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ONLY_WITH_THE_EXTRA = """
import sys, tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
left = [(Requirement(text), "") for text in project["dependencies"] + project["optional-dependencies"]["serving"]]
closure = set()
while left:
    one, extra = left.pop()
    if one.marker is not None and not one.marker.evaluate({"extra": extra}):
        continue
    for wanted in one.extras or {""}:
        name = canonicalize_name(one.name)
        if (name, wanted) in closure:
            continue
        closure.add((name, wanted))
        try:
            left += [(Requirement(text), wanted) for text in requires(name) or ()]
        except PackageNotFoundError:
            pass
installed = {name for name, _ in closure}
hidden = {
    module
    for module, names in packages_distributions().items()
    if module not in ("recommender", "serving") and not installed & set(map(canonicalize_name, names))
}


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r} in the serving image")


sys.meta_path.insert(0, Hidden())
assert {"pandas", "feast", "kfp"} <= hidden

from recommender.models import RANKERS, ranker_class
from recommender.models.next_item import ITEM_RANKERS, item_ranker_class

import recommender.bundle
import_module("lightgbm")
for name in RANKERS:
    ranker_class(name)
for name in ITEM_RANKERS:
    item_ranker_class(name)
print(len(RANKERS), len(ITEM_RANKERS))
"""


def test_every_ranker_is_loaded_with_what_the_serving_image_installs() -> None:
    done = subprocess.run([sys.executable, "-c", ONLY_WITH_THE_EXTRA], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rankers, item_rankers = map(int, done.stdout.split())
    assert rankers > item_rankers > 15
