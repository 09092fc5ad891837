"""The first difference between two facts, in words, and how far apart two files of tensors are."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMPY = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "|b1"},
}
LONGEST = 60
"""Characters of a value that are shown. Chosen by hand: two values fit on a line of a terminal."""


def first_difference(before: Any, after: Any, place: str = "") -> str | None:
    """Where two JSON values first differ, and both values. None if they are equal. NaN equals NaN, 1 equals 1.0."""
    here = place or "value"
    if isinstance(before, dict) and isinstance(after, dict):
        if missing := [name for name in before if name not in after]:
            return f"{here}: {missing[0]!r} is missing after"
        if new := [name for name in after if name not in before]:
            return f"{here}: {new[0]!r} is new after"
        pairs = [(f"{place}.{name}" if place else str(name), before[name], after[name]) for name in before]
    elif isinstance(before, list) and isinstance(after, list):
        pairs = [(f"{place}[{at}]", *two) for at, two in enumerate(zip(before, after, strict=False))]
    else:
        return None if _same(before, after) else f"{here}: {_short(before)} before, {_short(after)} after"
    for name, one, other in pairs:
        if (found := first_difference(one, other, name)) is not None:
            return found
    if len(before) != len(after):
        return f"{here}: {len(before)} before, {len(after)} after"
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    # Python takes True for 1, JSON does not.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def tensors_in(file: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """dtype, shape and bytes of every tensor in a safetensors file, by name.

    Read here and not by the library, which reads into arrays and has none for bfloat16: what is compared are the
    file's bytes.
    """
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, said in sorted(header.items()):
        low, high = said["data_offsets"]
        found[name] = (str(said["dtype"]), list(said["shape"]), content[start + low : start + high])
    return found


def tensor_facts(file: Path) -> dict[str, dict[str, Any]]:
    """dtype, shape, size and SHA-256 of every tensor in a safetensors file, by name."""
    return {
        name: {"dtype": dtype, "shape": shape, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, (dtype, shape, content) in tensors_in(file).items()
    }


def tensors_apart(before: Path, after: Path) -> str:
    """How many tensors differ, and how far the first of them is off: whether it is rounding or another model."""
    ours, theirs = tensors_in(before), tensors_in(after)
    differing = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if not differing:
        return f"{len(ours)} tensors before, {len(theirs)} after; those that both have are equal"
    name = differing[0]
    dtype, shape, content = ours[name]
    text = f"{len(differing)} of {len(ours)} tensors differ; {name} {dtype} {shape}"
    if theirs[name][:2] != (dtype, shape):
        return f"{text} became {theirs[name][0]} {theirs[name][1]}"
    if dtype not in NUMPY:
        return text
    one_N, other_N = _numbers(dtype, content), _numbers(dtype, theirs[name][2])
    off_N = one_N != other_N
    largest = np.abs(one_N - other_N)[off_N].max(initial=0.0)
    return f"{text}: {off_N.sum():,} of {len(one_N):,} elements, by {largest:.3g} at most"


def _numbers(dtype: str, content: bytes) -> NDArray[np.float64]:
    return np.frombuffer(content, NUMPY[dtype]).astype(np.float64)
