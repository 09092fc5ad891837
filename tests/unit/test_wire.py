"""The body that the gateway sends to the worker: request and features come out as they went in."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.matching.rerank import Rerank
from recommender.policies.exploration import Exploration
from serving import wire
from serving.request import RecommendationRequest, ScoringRequest

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
REQUESTS = st.builds(
    RecommendationRequest,
    user_id=TEXT,
    campaign_ids=st.none() | st.lists(TEXT, min_size=1, max_size=5),
    num_campaigns=st.integers(1, 100),
    exclude_campaign_ids=st.lists(TEXT, max_size=5),
    num_items=st.integers(0, 50),
    explain=st.booleans(),
    context=st.dictionaries(TEXT, VALUES, max_size=5),
)
EXPLORATIONS = st.builds(Exploration, kind=st.sampled_from(["epsilon", "thompson"]), rate=st.floats(0.01, 1), seed=TEXT)
SCORING = st.builds(
    ScoringRequest,
    request=REQUESTS,
    as_of_us=st.integers(0, 2**52),
    exploration=st.none() | EXPLORATIONS,
    allow_repeats=st.booleans(),
    answer_by_us=st.none() | st.integers(0, 2**52),
    rerank=st.builds(Rerank, kind=st.sampled_from(["none", "mmr", "calibrated"]), trade_off=st.floats(0, 1)),
)


@given(SCORING, st.binary(max_size=300))
def test_a_request_and_its_features_come_out_as_they_went_in(asked: ScoringRequest, features: bytes) -> None:
    assert wire.decode(wire.encode(asked, features, KEY)) == (asked, features, KEY)


KEY = bytes(range(wire.KEY_BYTES))
REQUEST = ScoringRequest(request=RecommendationRequest(user_id="u"), as_of_us=1)


@pytest.mark.parametrize("length", range(len(wire.encode(REQUEST, b"", KEY))))
def test_a_body_that_was_cut_off_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match="body"):
        wire.decode(wire.encode(REQUEST, b"", KEY)[:length])


@pytest.mark.parametrize(
    ("request_json", "field"),
    [
        (b'{"request": {"user_id": 3}, "as_of_us": 1}', "request.user_id"),
        (b'{"request": {"user_id": "u", "colour": 1}, "as_of_us": 1}', "request.colour"),
        (b'{"request": {"user_id": "u"}, "as_of_us": "1"}', "as_of_us"),
        (b'{"request": {"user_id": "u"}, "as_of_us": 1, "exploration": {"kind": "never"}}', "exploration.kind"),
    ],
)
def test_a_request_of_the_wrong_shape_names_its_field(request_json: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        wire.decode(struct.pack("<c16sI", wire.MAGIC, KEY, len(request_json)) + request_json)


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.tuples(st.integers(0, 599), st.binary(max_size=40))))
def test_a_batch_and_its_answers_come_out_as_they_went_in(
    bodies: list[bytes], answers: list[tuple[int, bytes]]
) -> None:
    assert wire.decode_batch(wire.encode_batch(bodies)) == bodies
    assert wire.decode_answers(wire.encode_answers(answers)) == answers


@pytest.mark.parametrize("length", range(len(wire.encode_batch([b"one", b"", b"three"]))))
def test_a_batch_that_was_cut_off_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        wire.decode_batch(wire.encode_batch([b"one", b"", b"three"])[:length])
    with pytest.raises(ValueError, match="batch"):
        wire.decode_answers(wire.encode_answers([(200, b"one"), (503, b"")])[: min(length, 10)])


def test_a_batch_that_is_longer_than_it_says_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch of 2 holds 3"):
        wire.decode_batch(wire.encode_batch([b"one", b"two"]) + wire.encode_batch([b"x"])[5:])
