"""What README and docs name exists: files, modules, `recommender` verbs with their options, make targets, settings."""

import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from cli.main import app
from recommender.settings import EventSettings, Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP_FOLDERS = ("benchmarks", "cli", "components", "docs", "feature_repo", "k8s", "pipelines", "recommender", "reports")
TOP_FOLDERS += ("serving", "tests")
ADDED_BY_READER = {"add-a-ranker.md", "add-a-data-source.md"}
"""How-to pages that name files which the reader writes. `test_how_to_pages` runs their code."""
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


def code_of(page: Path) -> tuple[str, list[str]]:
    """Text of the fenced and indented blocks, with continued lines joined, and every inline code span."""
    text = page.read_text(encoding="utf-8")
    prose = BLOCK.sub("", text)
    blocks = "\n".join([*BLOCK.findall(text), *INDENTED.findall(prose)])
    return re.sub(r"\\\n\s*", " ", blocks), INLINE.findall(prose)


def all_code(page: Path) -> list[str]:
    blocks, spans = code_of(page)
    return [*blocks.splitlines(), *spans]


def is_path(span: str) -> bool:
    return re.fullmatch(rf"(?:{'|'.join(TOP_FOLDERS)})/[\w./-]*", span) is not None


def is_module(span: str) -> bool:
    folder, *parts = span.split(".")
    file = parts and parts[-1] in ("py", "toml", "yaml", "json", "md", "org")
    return folder in TOP_FOLDERS and bool(parts) and not file and all(part.isidentifier() for part in parts)


def verbs_in(line: str) -> Iterator[tuple[str, ...]]:
    """The words after `recommender`, up to the next shell operator or comment."""
    for called in re.findall(r"(?:^|[\s/])recommender ([a-z][^#|;&…]*)", line):
        yield tuple(called.split())


def command_of(words: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """The command that `words` call, and the words left over. AssertionError: there is no such verb."""
    command: Any = typer.main.get_command(app)
    while words and isinstance(command, TyperGroup) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        assert words[0] in command.commands, f"recommender has no verb {words[0]!r} in {sorted(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_module_that_a_page_names_exists(page: Path) -> None:
    spans = [] if page.name in ADDED_BY_READER else code_of(page)[1]
    missing = [span for span in spans if is_path(span) and not (ROOT / span).exists()]
    assert missing == []
    for span in filter(is_module, spans):
        pkgutil.resolve_name(span)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_recommender_verb_and_option_that_a_page_names_exists(page: Path) -> None:
    for line in all_code(page):
        for words in verbs_in(line):
            command, rest = command_of(words)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            # In a printed sentence a comma or a colon may follow an option.
            options = [word.split("=")[0].rstrip(",.;:") for word in rest if re.match(r"--[a-z]", word)]
            unknown = [option for option in options if option not in known | {"--help"}]
            assert unknown == [], f"{line}: {command.name} has {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for line in all_code(page)
        for name in re.findall(r"(?:^|[$;&(] ?| {4})make ([a-z][a-z0-9-]*[a-z0-9])(?![a-z0-9…-])", line)
    }
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_sets_by_environment_exists(page: Path) -> None:
    for name in re.findall(r"RECOMMENDER__([A-Z_]+)", page.read_text(encoding="utf-8")):
        section, _, key = name.lower().partition("__")
        fields = Settings.model_fields
        assert section in fields, name
        if key:
            assert key in type(getattr(Settings(), section)).model_fields, name


def test_the_page_of_events_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    for name, field in EventSettings.model_fields.items():
        assert f"| `{name}` | `{json.dumps(field.default)}` | {field.description} |" in page


def test_the_files_that_the_readme_links_to_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_check_of_verbs_refuses_a_verb_that_does_not_exist() -> None:
    with pytest.raises(AssertionError, match="recomend"):
        command_of(("recomend", "1"))
