"""The C++ compiler with which torch makes machine code for a CPU (torch.compile, AOTInductor)."""

import os
import shutil

from recommender.errors import SettingsError


def compiler() -> str:
    """What torch's inductor calls: `CXX`, or g++."""
    return os.environ.get("CXX") or "g++"


def has_compiler() -> bool:
    """Is it there?"""
    return shutil.which(compiler()) is not None


def require_compiler(what: str) -> None:
    """Raises SettingsError, naming what is wanted, where there is none."""
    if not has_compiler():
        raise SettingsError(
            f"{what} needs a C++ compiler, and {compiler()} is not here. Install g++, or name one in CXX."
        )
