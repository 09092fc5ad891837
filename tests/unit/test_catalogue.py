"""The catalogue: saved whole, verified, and cheap to ask."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from random_examples import DAY_US, random_catalogue

from recommender.errors import CorruptFileError
from recommender.matching.catalogue import ARRAYS, KEPT_COLUMNS, KEPT_INTERVALS, Catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    return random_catalogue(np.random.default_rng(0))


def test_a_saved_catalogue_comes_back_as_it_was(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path / "catalogue")
    back = Catalogue.load(tmp_path / "catalogue")
    for field in fields(Catalogue):
        np.testing.assert_array_equal(
            np.asarray(getattr(back, field.name), dtype=object),
            np.asarray(getattr(catalogue, field.name), dtype=object),
        )
    assert back.taxonomy_version == catalogue.taxonomy_version


def test_a_flipped_bit_is_named(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path / "catalogue")
    file = tmp_path / "catalogue" / ARRAYS
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    with pytest.raises(CorruptFileError, match=ARRAYS):
        Catalogue.load(tmp_path / "catalogue")


def test_a_new_campaign_changes_the_version_but_not_the_taxonomy(catalogue: Catalogue) -> None:
    content = {field.name: getattr(catalogue, field.name) for field in fields(Catalogue)[1:]}
    one, renamed = Catalogue.versioned(**content), Catalogue.versioned(**{**content, "campaign_types": ("new",) * 9})
    assert one.version != renamed.version
    assert one.taxonomy_version == renamed.taxonomy_version
    moved = catalogue.item_axes_VA.copy()
    moved[5, 2] = 0
    assert replace(catalogue, item_axes_VA=moved).taxonomy_version != catalogue.taxonomy_version


def test_a_campaign_is_live_from_its_start_until_before_its_end(catalogue: Catalogue) -> None:
    start = int(catalogue.campaign_starts_C[3])
    assert 3 not in catalogue.live(start - 1)
    assert catalogue.live(start).tolist() == [3]
    assert 3 not in catalogue.live(start + 30 * DAY_US)


def test_names_become_rows_once_and_unknown_names_are_listed(catalogue: Catalogue) -> None:
    rows, unknown = catalogue.rows(["campaign-4", "nobody's", "campaign-1", "campaign-4"])
    assert rows.tolist() == [4, 1]
    assert unknown == ["nobody's"]


def test_the_popular_list_is_sorted_by_rate_and_ties_by_row(catalogue: Catalogue) -> None:
    rates = np.array([0.1, 0.3, 0.1, 0.2, 0, 0, 0, 0, 0], dtype=np.float32)
    popular = replace(catalogue, campaign_popularity_C=rates)
    assert popular.popular([2, 3, 0, 1]).tolist() == [1, 3, 0, 2]
    assert popular.popular([2, 3, 0, 1], 2).tolist() == [1, 3]


def test_only_so_many_campaigns_are_kept_laid_out(catalogue: Catalogue) -> None:
    assert catalogue.incidence([1, 2]) is catalogue.incidence([1, 2])
    for first in range(9):
        for second in range(9):
            for third in range(9):
                catalogue.incidence([first, second, third])
    assert sum(len(one.types) for one in catalogue._incidences.values()) <= KEPT_COLUMNS


def test_what_is_live_changes_exactly_at_the_edges_of_windows_also_when_it_is_kept(catalogue: Catalogue) -> None:
    edges_us = sorted({*catalogue.campaign_starts_C.tolist(), *catalogue.campaign_ends_C.tolist()})
    for moment_us in [moment for edge in edges_us for moment in (edge, edge - 1, edge + 1)] * 2:
        live = [
            row
            for row in range(len(catalogue.campaign_ids))
            if catalogue.campaign_starts_C[row] <= moment_us < catalogue.campaign_ends_C[row]
        ]
        assert catalogue.live(moment_us).tolist() == live
        assert catalogue.live_popular(moment_us).tolist() == catalogue.popular(live).tolist()
    inside_us = edges_us[3] + 1
    assert catalogue.live_popular(inside_us) is catalogue.live_popular(inside_us + 1)


def test_only_so_many_intervals_are_kept() -> None:
    many = random_catalogue(np.random.default_rng(0), num_campaigns=3 * KEPT_INTERVALS)
    for start_us in many.campaign_starts_C.tolist():
        assert len(many.live(start_us)) == 1
    assert len(many._live) == KEPT_INTERVALS


def test_nobody_can_write_to_what_all_requests_share(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="read-only"):
        catalogue.live_popular(int(catalogue.campaign_starts_C[0]))[0] = 5
