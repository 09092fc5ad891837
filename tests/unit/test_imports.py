"""No files import each other in a cycle, and the core has few root modules: what import contracts do not cover."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("recommender", "feature_repo", "serving", "components", "pipelines", "cli", "benchmarks")
AT_THE_ROOT = {"errors", "logs", "secrets"}


def files() -> dict[str, Path]:
    """Module name -> file, of every package."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that a file imports anywhere: inside functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & modules.keys()
            if inside - modules.keys():
                found.add(node.module)
    return found & modules.keys()


def test_no_file_imports_another_in_a_cycle() -> None:
    modules = files()
    graph = {name: imports(path, modules) - {name} for name, path in modules.items()}
    assert len(graph) > 200
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"these files import each other: {' -> '.join(error.args[1])}") from None


def test_only_three_modules_lie_directly_under_the_core() -> None:
    direct = {path.stem for path in (ROOT / "recommender").glob("*.py")} - {"__init__"}
    assert direct == AT_THE_ROOT
