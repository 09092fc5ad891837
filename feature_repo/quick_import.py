"""Lets Feast be imported in a third of its time: without type checks of its own functions, and without torch.

Feast 0.67 decorates its classes with `typeguard.typechecked`, which compiles each of their functions again: half of the
CPU time that `import feast` takes, in every step that reads or writes the store. Our calls are the same in each run.
Half of the rest is `import torch`, of which Feast needs nothing until somebody asks it for tensors.
The command `feast` imports Feast before this module, so it keeps both, and tests run it on our definitions.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import typeguard

TORCH_WRAPPER = "feast.torch_wrapper"
"""Feast's module that imports torch where it is installed."""


def _unchecked(target: Any = None, **_: Any) -> Any:
    """`typeguard.typechecked` as it is under `python -O`: what it decorates stays as it is."""
    decorator: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return decorator if target is None else target


def without_type_checks() -> None:
    """Switch the checks off for what is imported from now on. In this environment only Feast asks for them."""
    typeguard.typechecked = _unchecked


def without_torch() -> None:
    """Have Feast import torch when it first needs it. Nothing changes where Feast is imported already."""
    if TORCH_WRAPPER not in sys.modules:
        wrapper = ModuleType(TORCH_WRAPPER)
        wrapper.__dict__["get_torch"] = lambda: importlib.import_module("torch")
        sys.modules[TORCH_WRAPPER] = wrapper
