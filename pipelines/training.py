"""The training pipeline: from a source to a verdict, and to a canary if the verdict is PROMOTE.

    ingest -> validate -> features -> materialise -> training set -> publish
    training set -> baselines, challenger -> register -> evaluate -> gate -> publish
                                                                     gate -> PROMOTE: deploy | HOLD

Steps that only turn inputs into outputs are cached. Their cache keys contain everything that changes the result and
that KFP cannot see: the data's hash, the settings, and the identity of the step's code. Steps that change anything
outside their outputs (the feature store, the registry, published files) are never cached.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.python_component import PythonComponent

from components.build_features import build_features
from components.build_training_set import build_training_set
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.hold import hold
from components.ingest import ingest
from components.materialise import materialise
from components.publish_evaluation import publish_evaluation
from components.publish_training_set import publish_training_set
from components.register import register
from components.train_ranker import train_ranker
from components.validate_data.component import validate_data
from pipelines.cluster import DATA, SMALL, TRAINING, Cluster, Size, place
from recommender.datasets.sources import source_module
from recommender.models.campaign import ranker_modules
from recommender.settings import Settings
from recommender.storage.code_identity import code_identity

NAME = "campaign-training"
TITLE = "Campaign recommendation: training"
RETRIES = 2
"""Attempts after the first, for pods that are lost (a drained node, an eviction). Chosen by hand."""


def training_pipeline_for(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    identified_source: bool = False,
    retries: int = RETRIES,
    run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
) -> BaseComponent:
    """The pipeline for the rankers and the device of these settings. All else is passed as the parameter `settings`.

    Args:
        settings: name challenger, baselines and device.
        cluster: names and settings of the steps' pods. None on this machine.
        identified_source: the run's `source_identity` names the source's content, so that an unchanged source is not
            read again.
        retries: attempts of each step after the first.
        run: the run id that published files record. On a cluster it is KFP's id of the run.
    """

    def placed(task: dsl.PipelineTask, title: str, size: Size, *, cached: bool, gpu: bool = False) -> dsl.PipelineTask:
        task.set_display_name(title).set_caching_options(enable_caching=cached)
        if retries:
            # 30 s, then a minute: a lost node is replaced within minutes. Chosen by hand.
            task.set_retry(num_retries=retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
        return place(task, size, cluster, gpu=gpu)

    baselines, challenger = settings.training.baselines, settings.training.challenger
    of_challenger = ranker_modules(challenger)
    of_baselines = [module for name in baselines for module in ranker_modules(name)]
    gpu, source = settings.training.device == "cuda", source_module(settings.source)

    @dsl.pipeline(name=NAME, display_name=TITLE, description=__doc__)
    def training_pipeline(settings: str, data_settings: str, source_identity: str) -> None:
        read = ingest(settings=data_settings, source_identity=source_identity, code_version=code_of(ingest, source))
        placed(read, "Read the source into tables", DATA, cached=identified_source)

        key: dict[str, Any] = {"settings": data_settings}
        valid = validate_data(
            **key, code_version=code_of(validate_data), data_hash=read.outputs["Output"], raw=read.outputs["tables"]
        )
        placed(valid, "Validate the tables", DATA, cached=True)
        tables, key["data_hash"] = valid.outputs["tables"], valid.outputs["Output"]

        featured = build_features(**key, code_version=code_of(build_features), tables=tables)
        placed(featured, "Build features as of each decision", DATA, cached=True)
        features = featured.outputs["features"]

        stored = materialise(settings=settings, data_hash=key["data_hash"], features=features)
        placed(stored, "Materialise for training and serving", DATA, cached=False)

        key["data_hash"] = stored.output
        pairs = build_training_set(**key, code_version=code_of(build_training_set), features=features, tables=tables)
        placed(pairs, "Build the training set, point in time", DATA, cached=True)
        training_set = pairs.outputs["training_set"]
        key["settings"] = settings
        from_run = {"settings": settings, "run": run, "data_hash": key["data_hash"]}

        data = publish_training_set(**from_run, training_set=training_set, validation_page=valid.outputs["page"])
        placed(data, "Publish the training set", SMALL, cached=False)

        with dsl.ParallelFor(list(baselines), parallelism=1) as ranker:
            baseline = train_ranker(
                **key, code_version=code_of(train_ranker, *of_baselines), ranker=ranker, training_set=training_set
            )
            placed(baseline, "Train a baseline", TRAINING, cached=True)
        trained = train_ranker(
            **key,
            code_version=code_of(train_ranker, *of_challenger),
            ranker=challenger,
            training_set=training_set,
        )
        placed(trained, "Train the challenger", TRAINING, cached=True, gpu=gpu)

        entered = register(
            settings=settings,
            baselines=dsl.Collected(baseline.outputs["fits"]),
            challenger=trained.outputs["fits"],
        )
        placed(entered, "Enter the registry", SMALL, cached=False)
        champion_id, challenger_id = entered.outputs["champion"], entered.outputs["challenger"]

        measured = evaluate(
            settings=settings,
            champion=champion_id,
            challenger=challenger_id,
            others=entered.outputs["others"],
            training_set=training_set,
        )
        placed(measured, "Evaluate against the champion", TRAINING, cached=False)

        judged = gate(settings=settings, challenger=challenger_id, evaluation=measured.outputs["evaluation"])
        placed(judged, "Gate", SMALL, cached=False)
        reason = judged.outputs["reason"]

        results = publish_evaluation(
            **from_run,
            evaluation=measured.outputs["evaluation"],
            verdict=judged.outputs["verdict"],
            evaluation_page=measured.outputs["page"],
            training_page=trained.outputs["page"],
        )
        placed(results, "Publish the evaluation", SMALL, cached=False)

        with dsl.If(judged.outputs["decision"] == "PROMOTE", name="promote"):
            live = deploy(settings=settings, version=challenger_id, reason=reason)
            placed(live, "Deploy as canary beside the champion", SMALL, cached=False)
        with dsl.Else(name="hold"):
            kept = hold(champion=champion_id, challenger=challenger_id, reason=reason)
            placed(kept, "Hold: the champion stays", SMALL, cached=False)

    return training_pipeline


def code_of(step: PythonComponent, *modules: str) -> str:
    """Identity of the code that a step runs, part of its cache key. `modules`: what it looks up by name."""
    return code_identity(step.python_func.__module__, *modules)
