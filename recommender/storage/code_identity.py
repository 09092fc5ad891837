"""Code identity: a hash of the code that can change a result, named by versions, checkpoints, studies and cache keys.

`code_identity(roots)` follows the imports of the `roots` through this project's packages and hashes the syntax tree of
every module it reaches. It leaves out what cannot change a result: comments, docstrings, formatting, error messages and
descriptions of fields. So a new comment retrains nothing, and a changed constant in a feature makes everything
built on it stale. It hashes files, not a commit: an image has no repository, and a checkout may have local changes.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from recommender.errors import SettingsError
from recommender.storage.manifest import digest, sha256

OWN_PACKAGES = ("recommender", "feature_repo", "components", "pipelines", "serving", "console", "cli", "benchmarks")
WITHOUT_EFFECT = (
    *("serving", "console", "cli", "benchmarks", "pipelines"),
    *("recommender.report", "recommender.errors", "recommender.logs", "recommender.secrets", "recommender.settings"),
    *(
        "recommender.engine.progress",
        "recommender.engine.cost",
        "recommender.storage.code_identity",
        "recommender.storage.home",
    ),
    *("recommender.storage.published", "components.images", "components.step"),
    *("recommender.datasets.draft", "recommender.datasets.header_words", "recommender.datasets.preview"),
)
"""Packages and modules that a step may import but that change no trained weight and no table.

They show, log, raise or name things. The values of settings enter every identity separately, through
`training.identity.training_hash` and a step's parameters.
"""
TABLES_OF_NAMES = ("recommender.models.campaign", "recommender.models.next_item", "recommender.datasets.sources")
"""Modules that only look up a ranker or a source by name: a new one in the table changes none of the others."""
DATA_SUFFIXES = (".json", ".yaml", ".toml")
"""Suffixes of data files that count if they lie beside a module, as expectations and feature store settings do."""
SEARCH_SPACES = ("Range", "Choices")
"""Classes whose values say what a search may try (`engine.hyperparameters`). They change no trained weight."""
HASH_DIGITS = 12
"""48 bits: among a million different states of the code a collision has a probability of 0.2 %."""


@cache
def code_identity(*roots: str) -> str:
    """Hash of all modules that `roots` (module names) reach through imports, as 12 hex digits.

    The same installed code gives the same hash. A module that is imported by a computed name is not found, so name it
    among the roots.

    Raises:
        SettingsError: a root is not a module of this project.
    """
    hashes = {name: _syntax_hash(path) for name, path in modules_reached(*roots).items()}
    return digest(hashes, _data_hashes(*roots))[:HASH_DIGITS]


def modules_reached(*roots: str) -> dict[str, Path]:
    """Module name -> file of every module that can change what the code in `roots` computes, sorted by name.

    Raises:
        SettingsError: a root is not a module of this project.
    """
    found: dict[str, Path] = {}
    waiting = list(roots)
    for root in roots:
        if _file_of(root) is None:
            raise SettingsError(f"code identity: no module is called {root!r}")
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in found or _without_effect(name):
            continue
        found[name] = path
        waiting += _imported(path)
    return dict(sorted(found.items()))


def _without_effect(name: str) -> bool:
    return name in TABLES_OF_NAMES or any(name == one or name.startswith(f"{one}.") for one in WITHOUT_EFFECT)


@cache
def _file_of(name: str) -> Path | None:
    """The source file of a module of this project. None for anything else, such as a class in a module."""
    package, *rest = name.split(".")
    folder = _folder_of(package) if package in OWN_PACKAGES else None
    if folder is None:
        return None
    place = folder.joinpath(*rest)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _imported(path: Path) -> tuple[str, ...]:
    """Names of the modules that a file imports anywhere, inside functions too."""
    return _read(path)[0]


@cache
def _read(path: Path) -> tuple[tuple[str, ...], str]:
    """The names of the modules that a file imports, and the hash of what in it has an effect. Parsed once for both."""
    tree = ast.parse(path.read_bytes())
    imported = tuple(_imports(tree))
    return imported, digest(ast.dump(_OnlyEffects().visit(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if _file_of(name) is not None]
            yield from modules
            if len(modules) < len(inside):
                yield node.module


def _statements(within: ast.AST) -> Iterator[ast.AST]:
    """Every statement in the tree, wherever it is nested. Expressions, which are most of a tree, are not visited."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(within, part, ()):
            yield node
            yield from _statements(node)


def _syntax_hash(path: Path) -> str:
    return _read(path)[1]


def bare_code(source: str) -> str:
    """The same Python code without comments and docstrings, in standard formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree) + "\n"


def _is_text(node: ast.AST) -> bool:
    """Whether the statement is a string that stands by itself: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_logging(node: ast.Expr) -> bool:
    """Whether the statement is a call of a method of the module's `log`."""
    call = node.value
    of_log = (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
    )
    return of_log and call.func.value.id == "log"  # type: ignore[attr-defined]


class _OnlyEffects(ast.NodeTransformer):
    """Drops from a syntax tree what cannot change a result."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a string that stands by itself, which is a docstring, and a line for the log."""
        return None if _is_text(node) or _is_logging(node) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Drop an error's message, which changes no result. Raising the error may change one."""
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Drop a field's description, and search ranges, which enter the identity of a study by their values."""
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [one for one in node.keywords if one.arg != "description"]
        if isinstance(node.func, ast.Name) and node.func.id in SEARCH_SPACES:
            node.args, node.keywords = [], []
        return self.generic_visit(node)


def _data_hashes(*roots: str) -> dict[str, str]:
    """Hashes of the data files beside each module reached, and in subfolders that hold no code."""
    hashes = {}
    for name, path in modules_reached(*roots).items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for file in _data_files(path.parent):
            hashes[f"{package}/{file.relative_to(path.parent).as_posix()}"] = sha256(file)
    return hashes


def _data_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not (entry / "__init__.py").exists():
            yield from _data_files(entry)
        elif entry.is_file() and entry.suffix in DATA_SUFFIXES:
            yield entry
