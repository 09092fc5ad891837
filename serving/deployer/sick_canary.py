"""Ends a canary that stays sick, in the registry, so that every replica serves the champion alone."""

from recommender import logs
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployed import Deployed
from serving.version_health import read_reports

log = logs.get(__name__)
MAX_PROBLEM = 300
"""Characters of the last problem that the registry's history repeats: one or two lines."""


def end_sick_canary(settings: Settings) -> bool:
    """End the canary if the gateways of this replica have found it sick for `canary_sick_s`, and tell whether.

    A champion that is sick too points to something that both share, such as the machine: then the canary stays.
    """
    limit_s, state = settings.isolation.canary_sick_s, ServingState.of(settings)
    deployed = Deployed.load(state.root)
    if limit_s is None or deployed.canary is None:
        return False
    sick = read_reports(state.health)
    found = sick.get(deployed.canary)
    if found is None or found.for_s < limit_s or deployed.champion in sick:
        return False
    registry = Registry(settings.home)
    canary = registry.canary()
    if canary is None or canary.version != deployed.canary:
        return False
    reason = f"canary ended: sick for {found.for_s:.0f} s ({found.problem[:MAX_PROBLEM]})"
    if not registry.end_canary(canary, reason):
        return False
    log.error("canary ended", model_version=canary.version, reason=reason)
    return True
