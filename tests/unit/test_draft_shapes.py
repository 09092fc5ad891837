"""Drafts of mappings for files in the shapes of 18 public exports, against the mappings that a person wrote."""

import re
from pathlib import Path

import pytest
from shapes.compare import SHAPES, differences, drafted, shape

from recommender.datasets import draft_mapping

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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


def test_the_page_of_recipes_says_which_drafts_are_right() -> None:
    rows = re.findall(
        r"^\| \[[^]]+\]\(#(\w+)\) .* \| (yes|no)\b[^|]* \|$",
        (DOCS / "recipes.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == len(SHAPES)
    assert dict(rows) == dict.fromkeys(SHAPES, "yes")


def test_the_pages_show_parts_of_what_is_drafted_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    own = draft_mapping(sorted(Path("docs/examples/own-data").glob("*.csv")), folder=Path())
    olist = draft_mapping(sorted(shape("olist").write(tmp_path)), folder=tmp_path)
    data, tutorial = ((DOCS / name).read_text(encoding="utf-8") for name in ("data.md", "tutorial.md"))
    section = data.partition("\n## What the draft looks at\n")[2].partition("\n## ")[0]
    of_own, of_olist = BLOCK.findall(section)
    of_tutorial = BLOCK.findall(tutorial.partition("recommender draft-mapping")[2])[0]
    for part in (of_own, *of_tutorial.split("\n\n")):
        assert part.strip() in own
    assert of_olist.strip() in olist
