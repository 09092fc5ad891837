"""Assignment: sticky, uniform, the same in every process."""

import subprocess
import sys

import pytest

from recommender.decisions.assignment import assign, point

USERS = [f"user-{i}" for i in range(20_000)]


def test_a_user_keeps_the_variant_in_another_process() -> None:
    code = "from recommender.decisions.assignment import point; print(*[point(f'user-{i}', 'salt') for i in range(50)])"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [float(value) for value in there] == [point(user, "salt") for user in USERS[:50]]


def test_users_are_spread_evenly_and_the_canary_gets_its_share() -> None:
    bins = [0] * 20
    for user in USERS:
        bins[int(point(user, "salt") * 20)] += 1
    expected = len(USERS) / 20
    chi_squared = sum((count - expected) ** 2 / expected for count in bins)
    assert chi_squared < 43.8  # 99.9th percentile of chi-squared with 19 degrees of freedom
    canaries = sum(assign(user, salt="salt", canary_share=0.1).variant == "canary" for user in USERS)
    assert abs(canaries / len(USERS) - 0.1) < 4 * (0.1 * 0.9 / len(USERS)) ** 0.5


def test_two_salts_assign_independently() -> None:
    both = sum(point(user, "one") < 0.5 and point(user, "two") < 0.5 for user in USERS)
    assert abs(both / len(USERS) - 0.25) < 0.015


def test_a_growing_share_moves_nobody_back() -> None:
    before = {user for user in USERS if assign(user, salt="s", canary_share=0.1).variant == "canary"}
    after = {user for user in USERS if assign(user, salt="s", canary_share=0.3).variant == "canary"}
    assert before < after


def test_the_propensity_is_the_probability_of_the_variant() -> None:
    seen = {a.variant: a.propensity for a in (assign(user, salt="s", canary_share=0.25) for user in USERS)}
    assert seen == {"champion": 0.75, "canary": 0.25}
    assert assign("anyone", salt="s", canary_share=0.0).propensity == 1.0
    with pytest.raises(ValueError, match=r"1\.5"):
        assign("anyone", salt="s", canary_share=1.5)
