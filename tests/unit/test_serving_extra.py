"""What the serving image installs is enough to load and ask every ranker there is."""

import json
from pathlib import Path

import numpy as np
from extras import ROOT, modules_outside, run_with_only
from random_examples import random_examples

from recommender.engine.context import FitContext
from recommender.models.campaign import RANKERS, defaults_of, ranker_class
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
from pathlib import Path

import numpy as np
import serving.deployer.deploy, serving.gateway.app, serving.worker.handler
from random_examples import random_examples
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
    for name in RANKERS:
        dials = {dial: SMALL[dial] for dial in SMALL.keys() & defaults_of(name).keys()}
        ranker = ranker_class(name).fit(examples, labels, corpus=examples.histories, config=dials, context=FitContext())
        bundle.save(ranker, tmp_path / name, lineage={})
        expected[name] = ranker.score(examples).redeem_N
    assert {"pandas", "sklearn", "implicit"} <= set(modules_outside("serving"))
    environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    asked = run_with_only("serving", ASKED, str(tmp_path), json.dumps(FITTED), environment=environment)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {}
    for name, p_N in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / name / "scores.npy"), p_N, rtol=1e-5, err_msg=name)
