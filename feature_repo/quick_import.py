"""Lets Feast be imported in half of its time: without the type checks that it adds to its own functions.

Feast 0.67 decorates its classes with `typeguard.typechecked`, which compiles each of their functions again: 3 of the 6
CPU-seconds that `import feast` takes, in every step that reads or writes the store. Our calls are the same in each run.
The command `feast` imports Feast before this module, so it keeps the checks, and tests run it on our definitions.
"""

from collections.abc import Callable
from typing import Any

import typeguard


def _unchecked(target: Any = None, **_: Any) -> Any:
    """`typeguard.typechecked` as it is under `python -O`: what it decorates stays as it is."""
    decorator: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return decorator if target is None else target


def without_type_checks() -> None:
    """Switch the checks off for what is imported from now on. In this environment only Feast asks for them."""
    typeguard.typechecked = _unchecked
