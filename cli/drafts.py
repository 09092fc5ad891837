"""`draft-mapping`: writes a draft, and says on the terminal what a person must decide."""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets import draft_mapping
from recommender.errors import SourceError
from recommender.storage.manifest import write_text

SHOWN = ("PROBLEM", "UNREAD", "UNUSED", "MISSING", "DECIDE")
"""Marks of comments that are shown: what is not read, is missing, or needs an answer."""


def draft_to(output: Path, files: Sequence[Path]) -> None:
    """Write the draft for some files, and print what it leaves open.

    Raises:
        SourceError: `output` exists already, or a file is missing or unreadable.
    """
    if output.exists():
        raise SourceError(f"{output} exists already; give another name with --output")
    text = draft_mapping(files, folder=output.parent)
    write_text(output, text)
    said = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    shown = dict.fromkeys(line for line in said if line.startswith(SHOWN))
    for line in shown:
        print(line)
    checks = sum(line.startswith("CHECK") for line in said)
    more = f" and the {checks} lines marked CHECK" if checks else ""
    print(f"{output}: answer what is above{more}, then look at it: recommender ingest --data {output} --preview")
