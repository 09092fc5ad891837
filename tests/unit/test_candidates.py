"""The campaigns that are candidates for a user, and the stage at which each other one drops out."""

import numpy as np
import pytest
from random_examples import random_catalogue

from recommender.matching.affinity import campaign_code
from recommender.matching.candidates import candidates, is_taken_up
from recommender.matching.catalogue import Catalogue

NONE = np.zeros(0, dtype=np.uint32)


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
    found = candidates(catalogue, now, taken_up_k=NONE)
    assert ids(catalogue, found.rows_N) == ["campaign-3", "campaign-4", "campaign-5"]
    assert found.dropped == {}


def test_what_the_user_has_taken_up_is_no_candidate_unless_repeats_are_allowed(catalogue: Catalogue, now: int) -> None:
    taken_up_k = np.array([campaign_code("campaign-4")], dtype=np.uint32)
    found = candidates(catalogue, now, taken_up_k=taken_up_k)
    assert ids(catalogue, found.rows_N) == ["campaign-3", "campaign-5"]
    assert found.dropped == {"campaign-4": "taken_up"}
    assert len(candidates(catalogue, now, taken_up_k=None).rows_N) == 3
    assert is_taken_up(catalogue, np.array([3, 4, 5]), taken_up_k).tolist() == [False, True, False]


def test_each_named_campaign_that_is_no_candidate_has_the_stage_at_which_it_dropped(
    catalogue: Catalogue, now: int
) -> None:
    named = ["campaign-8", "campaign-5", "no such", "campaign-0", "campaign-4", "campaign-3", "campaign-5"]
    found = candidates(
        catalogue,
        now,
        named=named,
        excluded=["campaign-3", "another"],
        taken_up_k=np.array([campaign_code("campaign-4"), campaign_code("campaign-3")], dtype=np.uint32),
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
    found = candidates(catalogue, now, named=["campaign-3", "campaign-5"], taken_up_k=NONE)
    assert ids(catalogue, found.rows_N) == ["campaign-5", "campaign-3"]
