"""Sizes of memory as people write them: 512MB, 2GiB."""

import re

UNITS = {"MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30, "TB": 10**12, "TIB": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([MGT]i?B)", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """The bytes that a size names.

    Raises:
        ValueError: the text is no size.
    """
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError('must be a size such as "2GiB" or "512MB"')
    return int(float(found[1]) * UNITS[found[2].upper()])
