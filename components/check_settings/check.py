"""What the pipeline's first step does: it derives the run's settings from its parameters, and checks them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from components.check_settings.derive import Derived
from components.check_settings.parameters import by_parameter, settings_of_run
from components.check_settings.rules import check_rules
from components.check_settings.surroundings import check_surroundings
from recommender import logs
from recommender.errors import SettingsError
from recommender.evaluation.judgement import with_gate_campaigns

NOWHERE: Mapping[str, Any] = {"image": "", "resource": "", "count": "", "tolerations": []}
"""Place of a training on this machine."""
log = logs.get(__name__)


class Checked(NamedTuple):
    """The outputs of the first step, in the order in which its component names them."""

    baselines: list[dict[str, str]]
    """`ranker`, `settings` and `code_version` of each."""
    settings: str
    """All settings, as JSON, for the steps that are never cached."""
    source_settings: str
    data_settings: str
    source_identity: str
    """Names the content of the source."""
    challenger: str
    challenger_settings: str
    code_of_ingest: str
    code_of_validate_data: str
    code_of_build_features: str
    code_of_build_training_set: str
    code_of_train_ranker: str
    image: str
    """Image, resource, count and tolerations of the pod that trains the challenger. Empty on one machine."""
    accelerator: str
    accelerators: str
    tolerations: list[dict[str, str]]


def checked(base: str, places: Mapping[str, Any], given: Mapping[str, Any]) -> Checked:
    """Derive the settings of a run, and refuse it where a later step would stop.

    Args:
        base: Settings that are fixed since the pipeline was compiled (`parameters.base_settings`).
        places: `volume`: where one must be mounted; `devices`: device -> the place of the challenger's training.
        given: The run's parameters.

    Raises:
        RecommenderError: The first thing that is wrong, in one sentence with its remedy.
    """
    settings = settings_of_run(base, given)
    try:
        check_rules(settings)
    except SettingsError as error:
        raise SettingsError(by_parameter(str(error))) from None
    identity = check_surroundings(settings, volume=str(places.get("volume", "")))
    settings = with_gate_campaigns(settings)
    log.info(
        "run",
        challenger=settings.training.challenger,
        baselines=settings.training.baselines,
        as_of=str(settings.time.as_of or "the last event"),
        gate_from=str(settings.time.gate_from or "chosen from the data"),
        test_from=str(settings.time.test_from or "chosen from the data"),
    )
    derived, place = Derived.of(settings), places.get("devices", {}).get(settings.training.device, NOWHERE)
    return Checked(
        baselines=derived.baselines,
        settings=derived.settings,
        source_settings=derived.source_settings,
        data_settings=derived.data_settings,
        source_identity=identity,
        challenger=derived.challenger,
        challenger_settings=derived.challenger_settings,
        **{f"code_of_{step}": identity for step, identity in derived.code.items()},
        image=place["image"],
        accelerator=place["resource"],
        accelerators=place["count"],
        tolerations=place["tolerations"],
    )
