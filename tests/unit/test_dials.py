"""Every campaign ranker can have its defaults."""

import pytest

from recommender.models.campaign import RANKERS, defaults_of
from recommender.models.dials import check_dials


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_every_campaign_ranker_can_have_its_defaults(name: str) -> None:
    check_dials(name, defaults_of(name), defaults_of(name))
