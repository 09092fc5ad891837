"""Turns a text file of any encoding into UTF-8, or says which encoding it probably has.

A byte order mark and valid UTF-8 decide by themselves, also UTF-16 without a mark where every other byte is zero. All
else needs `encoding` in the mapping: a guess could read wrong letters without a word. Every byte of the file is
checked, since the first é may stand on its last line.
"""

import codecs
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from recommender.datasets.reading.problems import NotUtf8Error
from recommender.datasets.reading.raw import Part, shortened
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceError

BLOCK_BYTES = 1 << 20
"""Read at once: little memory, few calls. Chosen by hand."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "cp936": "gb18030", "big5": "cp950", "shift_jis": "cp932"}
"""What an encoding's name means in practice: files called GBK hold characters that only GB18030 has."""
ZERO_SHARE = 0.3
"""Share of zero bytes, all on one side of the pairs, that shows UTF-16: a table of numbers or Latin letters has more
than 0.9, one in Chinese some 0.4 from its delimiters and digits. By hand."""

CHINESE = (("gbk", 0xB0, 0xD7), ("big5", 0xA4, 0xC6))
"""Encoding and the first bytes of its common characters."""
ALONE = "年月日时分秒元件个時"
"""Characters that stand between digits in Chinese tables: 2024年01月10日."""
COMMON_SHARE = 0.6
"""Share of them above which a text is Chinese. Texts of names and shops have 0.8 and more, a Western text read as
Chinese less than 0.2. By hand."""


def to_utf8(part: Part, encoding: str | None, scratch: Path) -> Path:
    """A file with the same text in UTF-8: the file itself, with its mark, where it is that already.

    Raises:
        SourceError: a byte does not belong to the encoding; names line, byte and the probable encoding.
    """
    with part.path.open("rb") as file:
        start = file.read(4096)
    found = next((name for mark, name in MARKS if start.startswith(mark)), None) or _plain_utf16(start)
    chosen = codecs.lookup(found or SUPERSETS.get((encoding or "").lower(), encoding) or "utf-8").name
    if chosen in ("utf-8", "utf-8-sig", "ascii"):
        for _ in _decoded(part, "utf-8", named=encoding):
            pass
        return part.path
    target = new_file(scratch)
    with target.open("w", encoding="utf-8", newline="") as out:
        for text in _decoded(part, chosen, named=encoding):
            out.write(text)
    return target


def without_mark(path: Path, scratch: Path) -> Path:
    """A file without the byte order mark of UTF-8, which DuckDB's JSON reader refuses."""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            return path
        target = new_file(scratch)
        with target.open("wb") as out:
            shutil.copyfileobj(file, out, BLOCK_BYTES)
    return target


def _plain_utf16(start: bytes) -> str | None:
    """UTF-16 without a mark, where a zero stands in enough pairs and always on the same side."""
    half = max(len(start) // 2, 1)
    even, odd = start[0::2].count(0) / half, start[1::2].count(0) / half
    if odd > ZERO_SHARE and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > ZERO_SHARE and odd == 0 else None


def _decoded(part: Part, encoding: str, *, named: str | None) -> Iterator[str]:
    """The file's text block by block. Nothing for a block that is plain ASCII and needs no new file."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read, lines = 0, 1
    with part.path.open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            pending = decoder.getstate()[0]
            if encoding == "utf-8" and not pending and block.isascii() and block:
                lines += block.count(b"\n")
            else:
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    _refuse(part, error, encoding, named, lines, read - len(pending))
                lines += text.count("\n")
                yield text
            read += len(block)
            if not block:
                return


def _refuse(
    part: Part, error: UnicodeDecodeError, encoding: str, named: str | None, lines: int, offset: int
) -> NoReturn:
    """Raise the error about the first byte that is not of the encoding."""
    before, data = error.object[: error.start], error.object
    line = lines + before.decode(encoding, errors="replace").count("\n")
    byte = f"line {line:,}: byte 0x{data[error.start]:02x} (byte {offset + error.start + 1:,} of the file)"
    if named is not None:
        raise SourceError(f"{part.label}: {byte} is no {named}; correct `encoding` in the mapping") from None
    text = data.decode("utf-8", errors="replace")
    num_wrong = text.count("\ufffd")
    probable = probable_encoding(data)
    if sum(not char.isascii() for char in text) > 2 * num_wrong:
        remedy = "but its other characters are, so here is a damaged one: mend the line, or export the file anew"
    elif probable is None:
        remedy = 'name its encoding in the mapping, such as encoding = "cp1252"'
    else:
        text = data[before.rfind(b"\n") + 1 :].split(b"\n", 1)[0].decode(probable, errors="replace").strip()
        remedy = f'probably it is {probable} (the line would read {shortened(text)}): write encoding = "{probable}"'
    raise NotUtf8Error(f"{part.label}: {byte} is not UTF-8; {remedy} for this file in the mapping", probable) from None


def probable_encoding(data: bytes) -> str | None:
    """The encoding that a text which is not UTF-8 most probably has, judged by its bytes above 127. None: unclear.

    Chinese texts have characters of two bytes side by side, most of them common ones (first byte in GBK: B0-D7, in
    Big5: A4-C6). Cyrillic ones have words of such bytes. Western ones have them singly, between ASCII letters.
    """
    runs = re.findall(rb"[\x80-\xff]+", data)
    if not runs:
        return None
    shares = {encoding: _common_share(data, encoding, first, last) for encoding, first, last in CHINESE}
    best = max(shares, key=lambda encoding: shares[encoding])
    if shares[best] > COMMON_SHARE:
        return best
    num_high = sum(map(len, runs))
    if sum(byte >= 0xC0 for run in runs for byte in run) > 0.9 * num_high and num_high > 2 * len(runs):
        return "cp1251"
    # Five bytes mean nothing in cp1252, so a text that has them is of another encoding.
    return None if re.search(rb"[\x81\x8d\x8f\x90\x9d]", data) else "cp1252"


def _common_share(data: bytes, encoding: str, first: int, last: int) -> float:
    """Share of common characters side by side among those beyond ASCII, in a two-byte encoding. 0: it is not that."""
    # Up to two bytes at the end of a block may be half a character.
    text = data.decode(encoding, errors="replace").rstrip("\ufffd")
    words = re.findall(r"[^\x00-\x7f]+", text)
    if "\ufffd" in text or not words:
        return 0.0
    common: int = sum(
        char in ALONE or (len(word) > 1 and first <= char.encode(encoding)[0] <= last)
        for word in words
        for char in word
    )
    return common / sum(map(len, words))
