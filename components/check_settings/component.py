"""Pipeline step, the first one: one settings object from the run's parameters, checked before anything costs."""

from typing import NamedTuple

from kfp import dsl

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def check_settings(
    base: str,
    places: dict,  # type: ignore[type-arg]
    as_of: str,
    gate_from: str,
    test_from: str,
    gate_campaigns: int,
    challenger: str,
    baselines: str,
    trials: int,
    device: str,
    canary_share: float,
    source: str,
    settings_override: dict,  # type: ignore[type-arg]
) -> NamedTuple(  # type: ignore[valid-type]
    "Checked",
    [
        ("Output", list),
        ("settings", str),
        ("source_settings", str),
        ("data_settings", str),
        ("source_identity", str),
        ("challenger", str),
        ("challenger_settings", str),
        ("code_of_ingest", str),
        ("code_of_validate_data", str),
        ("code_of_build_features", str),
        ("code_of_build_training_set", str),
        ("code_of_train_ranker", str),
        ("image", str),
        ("accelerator", str),
        ("accelerators", str),
        ("tolerations", list),
    ],
):
    """Derive the settings of every step, and look at volume, secrets, stores, registry and source.

    `Output` holds the baselines, because kfp.local 2.17 repeats a loop only over an output of that name.
    """
    from components.check_settings.check import checked
    from components.step import running

    given = {"as_of": as_of, "gate_from": gate_from, "test_from": test_from, "gate_campaigns": gate_campaigns}
    given |= {"challenger": challenger, "baselines": baselines, "trials": trials, "device": device, "source": source}
    given |= {"canary_share": canary_share, "settings_override": settings_override}
    with running("check_settings", reads=given):
        return tuple(checked(base, places, given))
