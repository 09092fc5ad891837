"""Serving's part of Feast's storage format is Feast's own, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import settings as testing
from hypothesis import strategies as st
from online_stores import ODD_IDS

from recommender.errors import FeatureStoreError
from serving.online_store.feast_format import bytes_value, entity_key, hash_field


@testing(deadline=None)  # the first example imports Feast
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_key_of_any_user_is_the_key_that_feast_makes(user_id: str) -> None:
    assert entity_key("user_id", user_id) == feast_key(user_id)


@pytest.mark.parametrize("user_id", ODD_IDS)
def test_the_key_of_an_odd_user_is_the_key_that_feast_makes(user_id: str) -> None:
    assert entity_key("user_id", user_id) == feast_key(user_id)


def feast_key(user_id: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return serialize_entity_key(EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)]))


@testing(deadline=None)  # the first example imports Feast
@given(st.text(), st.text(max_size=9))
def test_the_hash_field_of_any_feature_is_the_field_that_feast_makes(view: str, field: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    if (view + field).isascii():
        assert hash_field(view, field) == _mmh3(f"{view}:{field}")


@testing(deadline=None)  # the first example imports Feast
@given(st.binary(max_size=70_000))
def test_any_bytes_come_out_of_feasts_value_as_they_went_in(content: bytes) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert bytes_value(Value(bytes_val=content).SerializeToString()) == content


def test_a_value_of_another_type_or_cut_short_is_an_error() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert bytes_value(Value().SerializeToString()) is None
    whole = Value(bytes_val=b"x" * 300).SerializeToString()
    for message in (Value(string_val="x").SerializeToString(), whole[:-1], whole + b"x", whole[:1], whole[:2]):
        with pytest.raises(FeatureStoreError):
            bytes_value(message)
