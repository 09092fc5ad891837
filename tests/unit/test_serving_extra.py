"""What the serving image installs is enough to load and ask every ranker there is."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from random_examples import fit_ranker, random_examples

from recommender.models.campaign import RANKERS, ranker_class
from recommender.registry import bundle

ROOT = Path(__file__).parents[2]
FITTED = {"num_pairs": 120, "num_users": 25}
SMALL: dict[str, object] = {
    **dict.fromkeys(
        ("epochs", "iterations", "rounds", "campaign_min_lines", "pretrain_epochs", "pretrain_min_steps"), 1
    ),
    "rate_feature": "social__d",
}
ASKED = """
import json, sys
from pathlib import Path

hidden = set(json.load(sys.stdin))

class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden)

import numpy as np
import serving.deployer.deploy, serving.gateway.app, serving.worker.handler
from random_examples import fit_ranker, random_examples
from recommender.registry import bundle

examples, _ = random_examples(**json.loads(sys.argv[2]))
missing = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        ranker = bundle.load(folder)
        ranker.contributions(examples)
        np.save(folder / "scores.npy", ranker.score(examples).redeem_N)
    except Exception as error:
        missing[folder.name] = str(error)
print(json.dumps(missing))
"""


def closure(texts: Iterable[str]) -> set[str]:
    """Distributions that pip would install for these requirements, as far as they are installed here."""
    found: set[tuple[str, str]] = set()
    ask = [(Requirement(text), "") for text in texts]
    while ask:
        requirement, of = ask.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                ask += [(Requirement(text), extra) for text in requires(name) or ()]
            except PackageNotFoundError:
                continue
    return {name for name, _ in found}


def test_every_ranker_loads_and_scores_with_what_the_serving_image_installs(tmp_path: Path) -> None:
    examples, labels = random_examples(**FITTED)
    expected = {}
    for name in RANKERS:
        small = {key: SMALL[key] for key in SMALL.keys() & ranker_class(name).Config.model_fields.keys()}
        ranker = fit_ranker(name, examples, labels, **small)
        bundle.save(ranker, tmp_path / name, lineage={})
        expected[name] = ranker.score(examples).redeem_N
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = closure([*project["dependencies"], *project["optional-dependencies"]["serving"]])
    installed.add(canonicalize_name(project["name"]))
    hidden = [
        module
        for module, names in packages_distributions().items()
        if installed.isdisjoint(map(canonicalize_name, names)) and module not in ("recommender", "serving")
    ]
    assert {"pandas", "sklearn", "implicit"} <= set(hidden)
    asked = subprocess.run(
        [sys.executable, "-c", ASKED, str(tmp_path), json.dumps(FITTED)],
        input=json.dumps(hidden),
        env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {}
    for name, p_N in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / name / "scores.npy"), p_N, rtol=1e-5, err_msg=name)
