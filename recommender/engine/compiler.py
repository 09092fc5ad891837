"""Finds the compilers that torch needs: C++ for CPU code (torch.compile, AOTInductor), C to launch GPU kernels."""

import os
import shutil

from recommender.errors import SettingsError

COMPILERS = {"cpu": ("C++", "CXX", ("g++",)), "cuda": ("C", "CC", ("gcc", "clang"))}
"""Device -> language, environment variable that names a compiler, and the ones that torch looks for without it.

For CUDA it is Triton that looks, and it takes the first that is installed.
"""


def has_compiler(device: str = "cpu") -> bool:
    """Return whether the compiler for a device is installed."""
    _, variable, defaults = COMPILERS[device]
    named = os.environ.get(variable)
    return any(shutil.which(command) for command in ([named] if named else defaults))


def require_compiler(what: str, device: str = "cpu") -> None:
    """Check that the compiler for a device is installed. `what` needs it and begins the message.

    Raises:
        SettingsError: it is not; names the compiler and the variable.
    """
    if not has_compiler(device):
        language, variable, defaults = COMPILERS[device]
        missing = os.environ.get(variable) or " or ".join(defaults)
        raise SettingsError(
            f"{what} needs a {language} compiler, but {missing} is not installed; "
            f"install {defaults[0]}, or name a compiler in {variable}"
        )
