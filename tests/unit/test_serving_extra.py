"""What the serving image installs is enough to load and ask every ranker there is."""

import json
import subprocess
from pathlib import Path

import numpy as np
from bare_environment import bare_environment
from random_examples import fit_ranker, random_examples

from recommender.models.campaign import RANKERS, ranker_class
from recommender.registry import bundle

FITTED = {"num_pairs": 120, "num_users": 25}
SMALL: dict[str, object] = {
    **dict.fromkeys(
        ("epochs", "iterations", "rounds", "campaign_min_lines", "pretrain_epochs", "pretrain_min_steps"), 1
    ),
    "rate_feature": "social__d",
}
ASKED = """
import json, sys
from importlib.util import find_spec
from pathlib import Path

assert not [name for name in ("pandas", "pyarrow", "sklearn", "implicit") if find_spec(name)]

import numpy as np
import serving.deployer.endpoint, serving.gateway.run, serving.worker.handler
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


def test_every_ranker_loads_and_scores_with_what_the_serving_image_installs(tmp_path: Path) -> None:
    examples, labels = random_examples(**FITTED)
    expected = {}
    bundles = tmp_path / "bundles"
    for name in RANKERS:
        small = {key: SMALL[key] for key in SMALL.keys() & ranker_class(name).Config.model_fields.keys()}
        ranker = fit_ranker(name, examples, labels, **small)
        bundle.save(ranker, bundles / name, lineage={})
        expected[name] = ranker.score(examples).redeem_N
    python = bare_environment(tmp_path / "bare", extras=("serving",), dockerfile="serving/Dockerfile")
    asked = subprocess.run(
        [str(python), "-c", ASKED, str(bundles), json.dumps(FITTED)],
        cwd=tmp_path,  # not the checkout, whose packages would be imported instead of the wheel's
        env={"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {}
    for name, p_N in expected.items():
        np.testing.assert_allclose(np.load(bundles / name / "scores.npy"), p_N, rtol=1e-5, err_msg=name)
