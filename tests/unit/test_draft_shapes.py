"""Drafts of mappings for files in the shapes of 18 public exports, against the mappings that a person wrote."""

from pathlib import Path

import pytest
from shapes.compare import SHAPES, differences, drafted, shape

NEED_A_PERSON = {"klaviyo", "starbucks"}
"""Shapes whose drafts a person must complete: nested identifiers of a metric, and offers that are sent in waves."""


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in NEED_A_PERSON])
def test_a_draft_reads_what_a_person_would_map(name: str, tmp_path: Path) -> None:
    module = shape(name)
    assert differences(module, drafted(module, tmp_path), tmp_path) == []


@pytest.mark.parametrize("name", sorted(NEED_A_PERSON))
def test_a_draft_that_falls_short_says_what_is_missing(name: str, tmp_path: Path) -> None:
    module = shape(name)
    text = drafted(module, tmp_path)
    assert differences(module, text, tmp_path)
    assert "# MISSING" in text


def test_at_least_sixteen_of_the_eighteen_shapes_need_no_edit() -> None:
    assert len(SHAPES) == 18
    assert len(set(SHAPES) - NEED_A_PERSON) >= 16
