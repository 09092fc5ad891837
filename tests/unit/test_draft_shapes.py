"""Drafts of mappings for files in the shapes of 18 public exports, against the mappings that a person wrote."""

from pathlib import Path

import pytest
from shapes.compare import SHAPES, differences, drafted, shape


@pytest.mark.parametrize("name", SHAPES)
def test_a_draft_reads_what_a_person_would_map(name: str, tmp_path: Path) -> None:
    module = shape(name)
    assert differences(module, drafted(module, tmp_path), tmp_path) == []


def test_the_comparison_sees_a_draft_that_reads_something_else(tmp_path: Path) -> None:
    module = shape("olist")
    text = drafted(module, tmp_path)
    with_cancelled = text.replace("'canceled', ", "")
    assert with_cancelled != text
    assert differences(module, with_cancelled, tmp_path) == ["events: other rows"]
    assert differences(module, text.replace(" AS amount", " AS discount"), tmp_path) == ["events: no such table"]


def test_there_are_eighteen_shapes() -> None:
    assert len(SHAPES) == len(set(SHAPES)) == 18
