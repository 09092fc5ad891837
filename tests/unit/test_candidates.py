"""The campaigns that are candidates for a user, and the stage at which each other one drops out."""

import numpy as np
import pytest
from random_examples import random_catalogue

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.candidates import candidates
from recommender.matching.catalogue import Catalogue
from recommender.matching.open_campaigns import OpenCampaigns, campaign_code


def user(*taken_up: str) -> UserAffinity:
    """A user who bought nothing and took these campaigns up."""
    none, axes = np.zeros(0, dtype=np.uint16), len(AXES)
    ones = np.ones(len(taken_up), dtype=np.uint16)
    return UserAffinity(
        months=1.0,
        values=(none.astype(np.int32),) * axes,
        counts=(np.zeros((len(MEASURES), 0), dtype=np.uint16),) * axes,
        cents=(none.astype(np.uint32),) * axes,
        types=none.astype(np.uint32),
        targeted=none,
        redeemed=none,
        open=OpenCampaigns(
            codes_O=np.array([campaign_code(name) for name in taken_up], dtype=np.uint32),
            targeted_us_O=ones.astype(np.int64),
            counted_O=ones,
            redeemed_O=ones,
            columns_H=none,
            habits_OH=np.zeros((len(taken_up), 0), dtype=np.float32),
        ),
    )


@pytest.fixture
def catalogue() -> Catalogue:
    """Nine campaigns of which 3, 4 and 5 are live at `now`."""
    made = random_catalogue(np.random.default_rng(0))
    made.campaign_starts_C[3:6] = made.campaign_starts_C[5]
    made.campaign_ends_C[3:6] = made.campaign_ends_C[5]
    return made


@pytest.fixture
def now(catalogue: Catalogue) -> int:
    return int(catalogue.campaign_starts_C[5]) + 1


def ids(catalogue: Catalogue, rows: np.ndarray) -> list[str]:
    return [catalogue.campaign_ids[row] for row in rows.tolist()]


def test_without_a_list_every_live_campaign_is_a_candidate(catalogue: Catalogue, now: int) -> None:
    found = candidates(catalogue, now, user=user())
    assert ids(catalogue, found.rows_N) == ["campaign-3", "campaign-4", "campaign-5"]
    assert found.dropped == {}


def test_what_the_user_has_taken_up_is_no_candidate_unless_repeats_are_allowed(catalogue: Catalogue, now: int) -> None:
    found = candidates(catalogue, now, user=user("campaign-4"))
    assert ids(catalogue, found.rows_N) == ["campaign-3", "campaign-5"]
    assert found.dropped == {"campaign-4": "taken_up"}
    assert len(candidates(catalogue, now, user=None).rows_N) == 3


def test_each_named_campaign_that_is_no_candidate_has_the_stage_at_which_it_dropped(
    catalogue: Catalogue, now: int
) -> None:
    named = ["campaign-8", "campaign-5", "no such", "campaign-0", "campaign-4", "campaign-3", "campaign-5"]
    found = candidates(
        catalogue,
        now,
        named=named,
        excluded=["campaign-3", "another"],
        user=user("campaign-4", "campaign-3"),
    )
    assert ids(catalogue, found.rows_N) == ["campaign-5"]
    assert list(found.dropped.items()) == [
        ("no such", "unknown"),
        ("campaign-8", "not_started"),
        ("campaign-0", "ended"),
        ("campaign-4", "taken_up"),
        ("campaign-3", "excluded"),
    ]


def test_candidates_come_most_popular_first(catalogue: Catalogue, now: int) -> None:
    catalogue.campaign_popularity_C[5] = 0.9
    found = candidates(catalogue, now, named=["campaign-3", "campaign-5"], user=user())
    assert ids(catalogue, found.rows_N) == ["campaign-5", "campaign-3"]
