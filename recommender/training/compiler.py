"""A C++ compiler, which torch.compile and AOTInductor need to make machine code for a CPU."""

import shutil

from recommender.errors import SettingsError


def has_compiler() -> bool:
    """Is there one?"""
    return any(map(shutil.which, ("c++", "g++", "clang++")))


def require_compiler(what: str) -> None:
    """Raises SettingsError, naming what is wanted, where there is none."""
    if not has_compiler():
        raise SettingsError(f"{what} needs a C++ compiler (c++, g++ or clang++), and there is none here.")
