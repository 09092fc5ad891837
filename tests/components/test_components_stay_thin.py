"""A component is a name, its artifacts and one call into a package below: no logic may grow there."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "components"
MAX_BODY_LINES = 15


def component_files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "@dsl.component" in path.read_text(encoding="utf-8"))


def component_function(path: Path) -> ast.FunctionDef:
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    (function,) = functions
    return function


def top_level_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


def test_every_step_of_the_pipeline_is_a_component_file() -> None:
    names = {component_function(path).name for path in component_files()}
    assert {
        "check_settings",
        "ingest",
        "validate_data",
        "build_features",
        "materialise",
        "build_training_set",
        "train_ranker",
    } < names
    assert {"evaluate", "gate", "deploy", "publish_training_set", "publish_evaluation"} < names


@pytest.mark.parametrize("path", component_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_component_imports_only_the_standard_library_kfp_and_the_image_names_at_its_top(path: Path) -> None:
    foreign = {
        name
        for name in top_level_modules(path)
        if name.split(".")[0] not in {*sys.stdlib_module_names, "kfp"} and name != "components.images"
    }
    assert not foreign, f"{path.name} imports {foreign} at its top: import inside the function"


@pytest.mark.parametrize("path", component_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_component_body_is_at_most_fifteen_lines_after_its_docstring(path: Path) -> None:
    function = component_function(path)
    assert ast.get_docstring(function), f"{path.name}: a component says in a docstring what it does"
    first, last = function.body[1].lineno, function.body[-1].end_lineno
    assert last is not None
    assert last - first + 1 <= MAX_BODY_LINES, f"{path.name}: a longer body is logic and belongs to a package below"


@pytest.mark.parametrize("path", component_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_component_ends_with_its_call_inside_running_under_its_own_name(path: Path) -> None:
    function = component_function(path)
    last = function.body[-1]
    assert isinstance(last, ast.With)
    call = last.items[0].context_expr
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "running"
    assert ast.literal_eval(call.args[0]) == function.name
    # What stands before it may only name things: a refusal outside of it would be a traceback.
    called = [node for one in function.body[1:-1] for node in ast.walk(one) if isinstance(node, ast.Call)]
    assert {ast.unparse(node.func) for node in called} <= {"Path"}


@pytest.mark.parametrize("path", component_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_component_runs_from_the_one_pipeline_image(path: Path) -> None:
    module = import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
    component = getattr(module, component_function(path).name)
    (executor,) = component.pipeline_spec.deployment_spec["executors"].fields.values()
    image = executor.struct_value["container"]["image"]
    assert image == import_module("components.images").PIPELINE_IMAGE


def imported_by(*components: str) -> set[str]:
    """Packages that a process has imported after the imports in the bodies of these components."""
    bodies = [component_function(ROOT / f"{name}.py").body for name in components]
    imports = [ast.unparse(node) for body in bodies for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    code = "\n".join([*imports, "import sys", "print(*(name for name in sys.modules if '.' not in name))"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    packages = set(done.stdout.split())
    assert "recommender" in packages
    return packages


def test_steps_that_train_no_network_import_no_torch() -> None:
    # It takes seconds and 180 MiB. Feast would import it for the two steps that read and write the store.
    small = ("publish_training_set", "register", "gate", "publish_evaluation", "deploy", "hold")
    packages = imported_by(*small, "materialise", "build_training_set", "check_settings/component")
    assert "feature_repo" in packages
    assert "torch" not in packages


def test_the_first_step_imports_no_feast() -> None:
    packages = imported_by("check_settings/component")
    assert "feature_repo" in packages
    assert "feast" not in packages


def test_only_one_file_of_the_python_code_names_an_image() -> None:
    repository = ROOT.parent
    packages = ("cli", "components", "feature_repo", "pipelines", "recommender", "serving")
    naming = [
        path.relative_to(repository).as_posix()
        for package in packages
        for path in (repository / package).rglob("*.py")
        if "campaign-recommender-" in path.read_text(encoding="utf-8")
    ]
    assert naming == ["components/images.py"]
