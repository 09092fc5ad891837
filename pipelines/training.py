"""The training pipeline: from a source to a verdict, and to a canary if the verdict is PROMOTE.

    check -> ingest -> validate -> features -> materialise -> training set -> publish
    training set -> baselines, challenger -> register -> evaluate -> gate -> publish
                                                                     gate -> PROMOTE: deploy | HOLD

The first step turns the run's parameters into one settings object and gives each step what it reads of it. Steps that
only turn inputs into outputs are cached. Their cache keys contain everything that changes the result and that KFP
cannot see: the data's hash, the settings, and the identity of the step's code. Steps that change anything outside
their outputs (the feature store, the registry, published files) are never cached.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.build_training_set import build_training_set
from components.check_settings.parameters import defaults
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.hold import hold
from components.materialise import materialise
from components.publish_evaluation import publish_evaluation
from components.publish_training_set import publish_training_set
from components.register import register
from components.train_ranker import train_ranker
from pipelines.cluster import DATA, SMALL, TRAINING, Cluster, lifetime, place_by
from pipelines.steps import RETRIES, Steps
from recommender.settings import Settings

NAME = "campaign-training"
TITLE = "Campaign recommendation: training"
DESCRIPTION = "From a source to a verdict: trains a challenger, measures it against the champion, and lets it serve."


def training_pipeline_for(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    retries: int = RETRIES,
    run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
) -> BaseComponent:
    """The pipeline whose parameters have these settings' values as defaults. All other settings are fixed in it.

    Args:
        settings: of the pipeline's runs.
        cluster: names and settings of the steps' pods. None on this machine.
        retries: attempts of each step after the first.
        run: the run id that published files record. On a cluster it is KFP's id of the run.
    """
    steps, given = Steps(cluster=cluster, retries=retries), defaults(settings)
    placed = steps.placed

    @dsl.pipeline(name=NAME, display_name=TITLE, description=DESCRIPTION, pipeline_config=lifetime(cluster))
    def training_pipeline(
        as_of: str = given["as_of"],
        source: str = given["source"],
        challenger: str = given["challenger"],
        baselines: str = given["baselines"],
        trials: int = given["trials"],
        device: str = given["device"],
        gate_from: str = given["gate_from"],
        test_from: str = given["test_from"],
        gate_campaigns: int = given["gate_campaigns"],
        canary_share: float = given["canary_share"],
        settings_override: dict = given["settings_override"],  # type: ignore[type-arg]
    ) -> None:
        """Train a challenger and judge it.

        Args:
            as_of: The moment that counts as now: a date (2017-12-31) or a time (2017-12-31T18:00), in the shop's time
                zone. Empty: the moment of the newest data.
            source: Where the data come from: complete_journey, synthetic, or the path of a mapping of your own files
                (/var/recommender/shop/mapping.toml).
            challenger: The ranker that is measured against the champion. `recommender rankers` lists them.
            baselines: Rankers that are trained beside the challenger, separated by commas. The last one becomes the
                first champion.
            trials: Configurations of the challenger to try before it is trained. 0: its configured hyperparameters.
            device: Where the challenger is trained: cpu, or cuda for a GPU.
            gate_from: Campaigns that start from here until test_from decide. A date. Empty: chosen from the data.
            test_from: Campaigns that start from here on are only reported. A date. Empty: chosen from the data.
            gate_campaigns: Campaigns that a gate period chosen from the data holds. 0: as many as the rules demand.
            canary_share: Share of the users that a promoted challenger gets, between 0 and 1.
            settings_override: Other settings of this run, by section: {"training": {"seed": 18}}.
        """
        own = {"as_of": as_of, "gate_from": gate_from, "test_from": test_from, "gate_campaigns": gate_campaigns}
        own |= {"challenger": challenger, "baselines": baselines, "trials": trials, "device": device}
        own |= {"canary_share": canary_share, "source": source, "settings_override": settings_override}
        known = steps.featured(settings, own)
        derived, of_data, features, tables = known.derived, known.of_data, known.features, known.tables

        whole: dict[str, Any] = {"settings": derived["settings"]}
        stored = materialise(**whole, data_hash=known.data_hash, features=features)
        placed(stored, "Materialise for training and serving", DATA, cached=False)
        data_hash = stored.output

        pairs = build_training_set(
            **of_data,
            code_version=derived["code_of_build_training_set"],
            data_hash=data_hash,
            features=features,
            tables=tables,
        )
        placed(pairs, "Build the training set, point in time", DATA, cached=True)
        training_set = pairs.outputs["training_set"]
        from_run = {**whole, "run": run, "data_hash": data_hash}

        data = publish_training_set(**from_run, training_set=training_set, validation_page=known.validation_page)
        placed(data, "Publish the training set", SMALL, cached=False)

        with dsl.ParallelFor(derived["Output"], name="Train the baselines", parallelism=1) as one:
            baseline = train_ranker(
                settings=one.settings,
                code_version=one.code_version,
                data_hash=data_hash,
                ranker=one.ranker,
                training_set=training_set,
            )
            placed(baseline, "Train a baseline", TRAINING, cached=True)
        trained = train_ranker(
            settings=derived["challenger_settings"],
            code_version=derived["code_of_train_ranker"],
            data_hash=data_hash,
            ranker=derived["challenger"],
            training_set=training_set,
        )
        placed(trained, "Train the challenger", TRAINING, cached=True)
        place_by(trained, derived, cluster)

        entered = register(
            **whole,
            baselines=dsl.Collected(baseline.outputs["fits"]),
            challenger=trained.outputs["fits"],
        )
        placed(entered, "Enter the registry", SMALL, cached=False)
        champion_id, challenger_id = entered.outputs["champion"], entered.outputs["challenger"]

        measured = evaluate(
            **whole,
            champion=champion_id,
            challenger=challenger_id,
            others=entered.outputs["others"],
            training_set=training_set,
        )
        placed(measured, "Evaluate against the champion", TRAINING, cached=False)

        judged = gate(**whole, challenger=challenger_id, evaluation=measured.outputs["evaluation"])
        placed(judged, "Gate: promote or hold", SMALL, cached=False)
        decision, reason = judged.outputs["Output"], judged.outputs["reason"]

        results = publish_evaluation(
            **from_run,
            evaluation=measured.outputs["evaluation"],
            verdict=judged.outputs["verdict"],
            evaluation_page=measured.outputs["page"],
            training_page=trained.outputs["page"],
        )
        placed(results, "Publish the evaluation", SMALL, cached=False)

        # Two conditions in place of an If and its Else, which KFP would put into a box that cannot be named.
        with dsl.If(decision == "PROMOTE", name="If the challenger is promoted"):
            live = deploy(**whole, version=challenger_id, reason=reason)
            placed(live, "Deploy as canary beside the champion", SMALL, cached=False)
        with dsl.If(decision != "PROMOTE", name="If the champion stays"):
            kept = hold(champion=champion_id, challenger=challenger_id, reason=reason)
            placed(kept, "Hold: the champion stays", SMALL, cached=False)

    return training_pipeline
