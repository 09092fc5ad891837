"""The compilers with which torch makes machine code: C++ for a CPU (torch.compile, AOTInductor), C for what starts a GPU's kernels."""

import os
import shutil

from recommender.errors import SettingsError

COMPILERS = {"cpu": ("C++", "CXX", ("g++",)), "cuda": ("C", "CC", ("gcc", "clang"))}
"""For each device: the language, the variable that names a compiler, and what is taken without it (by Triton: the first that is there)."""


def has_compiler(device: str = "cpu") -> bool:
    """Is one there?"""
    _, variable, usual = COMPILERS[device]
    named = os.environ.get(variable)
    return any(shutil.which(one) for one in ([named] if named else usual))


def require_compiler(what: str, device: str = "cpu") -> None:
    """Raises SettingsError, naming what is wanted, where there is none."""
    if not has_compiler(device):
        language, variable, usual = COMPILERS[device]
        missing = os.environ.get(variable) or " or ".join(usual)
        raise SettingsError(
            f"{what} needs a {language} compiler, and {missing} is not here. Install {usual[0]}, or name one in {variable}."
        )
