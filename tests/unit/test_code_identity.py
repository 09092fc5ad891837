"""A change in one place of a copy of the project changes the identities that depend on it, and no others."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recommender.errors import SettingsError
from recommender.storage.code_identity import OWN_PACKAGES, bare_code, code_identity, modules_reached

ROOT = Path(__file__).parents[2]
IDENTITIES = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from recommender.models.campaign import RANKERS
from recommender.models.next_item import ITEM_RANKERS
from recommender.settings import Settings
from recommender.training.identity import checkpoint_folder, training_code
from recommender.training.next_items.fitting import fitting_code
from recommender.training.tune import study_code

data, moment = SimpleNamespace(manifest={"content_hash": "1"}), datetime(2026, 1, 1, tzinfo=UTC)
found = {
    "versions": {name: training_code(name) for name in RANKERS},
    "checkpoints": {
        name: str(checkpoint_folder(Path(), name, data, Settings(), moment, earlier=False)) for name in RANKERS
    },
    "studies": {name: study_code(name) for name in RANKERS},
    "next-item studies": {name: fitting_code(name) for name in ITEM_RANKERS},
}
if sys.argv[2:] == ["compile"]:
    from components.check_settings.derive import Derived
    from pipelines.compile import compile_local

    file = Path(sys.argv[1]) / "pipeline.yaml"
    compile_local(Settings(), file, run="run")
    compiled = file.read_text()
    shown = ("#", "description:")
    derived = Derived.of(Settings())
    found["cache keys"] = [line for line in compiled.splitlines() if not line.strip().startswith(shown)]
    found["cache keys"] += [derived.code, derived.baselines]
print(json.dumps(found))
"""

WITHOUT_EFFECT_HERE = (
    *("recommender/report", "benchmarks", "serving", "cli", "recommender/datasets/draft"),
    *("recommender/datasets/synthetic", "recommender/datasets/own_files.py"),
)
"""Packages that show or serve, and the sources that the default settings do not read."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's packages in another folder."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    for package in OWN_PACKAGES:
        if (ROOT / package).is_dir():
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def identities(project: Path, *words: str) -> dict[str, Any]:
    """What the code in `project` names versions, checkpoints, studies and, with the word "compile", cached steps by."""
    run = subprocess.run(
        [sys.executable, "-c", IDENTITIES, str(project.parent), *words],
        cwd=project,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def after(project: Path, file: str, change: Callable[[str], str], *words: str) -> dict[str, Any]:
    """The identities while one file is changed. The file is put back."""
    path = project / file
    original = path.read_text(encoding="utf-8")
    changed = change(original)
    assert changed != original
    try:
        path.write_text(changed, encoding="utf-8")
        return identities(project, *words)
    finally:
        path.write_text(original, encoding="utf-8")


@pytest.fixture(scope="module")
def original(copied: Path) -> dict[str, Any]:
    return identities(copied, "compile")


def test_comments_docstrings_and_packages_that_only_show_or_serve_change_no_identity(
    copied: Path, original: dict[str, Any]
) -> None:
    """All at once: a comment in every file, other docstrings, and new code in what shows, serves or is not used."""
    kept = {path: path.read_text(encoding="utf-8") for path in copied.rglob("*.py")}
    try:
        for path, text in kept.items():
            commented = f"{text}\n# A comment at the end.\n".replace('"""', '"""Other words. ', 1)
            package = path.relative_to(copied).as_posix()
            if package.startswith(WITHOUT_EFFECT_HERE):
                commented += "\nANOTHER_CONSTANT = 1\n"
            commented = commented.replace(
                "    from pathlib import Path\n", "    from pathlib import Path  # a remark\n"
            )
            path.write_text(commented, encoding="utf-8")
        assert identities(copied, "compile") == original
    finally:
        for path, text in kept.items():
            path.write_text(text, encoding="utf-8")


def test_a_changed_constant_in_a_feature_changes_every_campaign_ranker_and_the_step_that_builds_features(
    copied: Path, original: dict[str, Any]
) -> None:
    change = ("recommender/features/purchases.py", lambda text: text + "\nA_WINDOW_DAYS = 31\n")
    changed = after(copied, *change, "compile")
    for what in ("versions", "checkpoints", "studies"):
        assert all(original[what][name] != value for name, value in changed[what].items())
    assert changed["next-item studies"] == original["next-item studies"]
    assert changed["cache keys"] != original["cache keys"]


def test_a_changed_ranker_changes_its_own_identity_and_no_other_rankers(copied: Path, original: dict[str, Any]) -> None:
    changed = after(copied, "recommender/models/campaign/lightgbm.py", lambda text: text + "\nROUNDS = 7\n")
    before, now = original["versions"], changed["versions"]
    assert [name for name in before if before[name] != now[name]] == ["lightgbm"]


def test_a_changed_expectation_changes_the_identity_of_the_validating_step_alone(copied: Path) -> None:
    assert "components.validate_data.suites" in modules_reached("components.validate_data.component")
    script = (
        "from recommender.storage.code_identity import code_identity as i;"
        "print(i('components.validate_data.component'), i('components.ingest'))"
    )
    run = [sys.executable, "-c", script]
    first = subprocess.run(run, cwd=copied, capture_output=True, text=True, check=True).stdout.split()
    file = copied / "components/validate_data/expectations/users.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("{", '{ "note": 1,', 1), encoding="utf-8")
    second = subprocess.run(run, cwd=copied, capture_output=True, text=True, check=True).stdout.split()
    file.write_text(text, encoding="utf-8")
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_what_only_a_reader_sees_and_what_a_search_tries_do_not_count(tmp_path: Path) -> None:
    text = (
        'class A:\n    x: Annotated[int, Range(1, 5)] = Field(3, ge=1, description="Size.")\n'
        '    def f(self):\n        """F."""\n        log.info("f", x=self.x)\n        raise ValueError("bad")\n'
    )
    changes = {
        "description": ('description="Size."', 'description="The size."'),
        "message": ('ValueError("bad")', 'ValueError(f"worse {self.x}")'),
        "docstring": ('"""F."""', '"""Another."""'),
        "search range": ("Range(1, 5)", "Range(2, 7)"),
        "log": ('log.info("f", x=self.x)', 'log.warning("g")'),
        "bound": ("ge=1", "ge=2"),
        "default": ("Field(3", "Field(4"),
    }
    shutil.copytree(ROOT / "recommender/storage", tmp_path / "recommender/storage")
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "recommender" / name, tmp_path / "recommender" / name)
    modules = []
    for number, (old, new) in enumerate([("", ""), *changes.values()]):
        assert old in text
        (tmp_path / f"recommender/shown{number}.py").write_text(text.replace(old, new, 1), encoding="utf-8")
        modules.append(f"recommender.shown{number}")
    script = (
        "import json; from recommender.storage.code_identity import _syntax_hash, modules_reached as found; "
        f"print(json.dumps([_syntax_hash(found(m)[m]) for m in {modules}]))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    original, *hashes = json.loads(run.stdout)
    counted = {name for name, found in zip(changes, hashes, strict=True) if found != original}
    assert counted == {"bound", "default"}


def test_bare_code_runs_as_the_code_it_came_from() -> None:
    source = (
        'def double(x):\n    """Twice."""\n    # a remark\n    return 2 * x\n\n\n'
        'def nothing():\n    """Only a docstring."""\n'
    )
    names: dict[str, Callable[[int], int]] = {}
    exec(bare_code(source), names)
    assert names["double"](4) == 8
    assert "remark" not in bare_code(source)


def test_a_root_that_is_no_module_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"recommender\.nothing"):
        code_identity("recommender.nothing")
