"""The join of user and campaign counts what was bought, exactly, for one request and for a batch alike."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from random_examples import random_catalogue

from recommender.datasets.time_units import DAY_US
from recommender.errors import FeatureStoreError
from recommender.matching import affinity, examples, packed_history
from recommender.matching.affinity import AXES, CROSS_NAMES, MEASURES, Incidence, UserAffinity
from recommender.matching.catalogue import Catalogue
from recommender.matching.numbering import Numbering

OTHER = Numbering(("0" * 16,), (1_000,) * len(AXES), 1_000)


def join(user: UserAffinity, campaigns: Incidence) -> NDArray[np.float32]:
    return affinity.affinities(affinity.match(user, campaigns))


def random_user(catalogue: Catalogue, seed: int = 1) -> UserAffinity:
    rng = np.random.default_rng(seed)
    sizes = [len(values) - 1 for values in catalogue.axis_values]
    values = tuple(np.sort(rng.choice(size, size=min(size, 30), replace=False) + 1).astype(np.int32) for size in sizes)
    return UserAffinity(
        months=5.5,
        values=values,
        counts=tuple(rng.integers(0, 40, (len(MEASURES), len(one))).astype(np.uint16) for one in values),
        cents=tuple(rng.integers(0, 99_999, len(one)).astype(np.uint32) for one in values),
        types=np.array([affinity.type_code("A"), affinity.type_code("C")], dtype=np.uint32),
        targeted=np.array([5, 1], dtype=np.uint16),
        redeemed=np.array([2, 0], dtype=np.uint16),
    )


@pytest.fixture
def catalogue() -> Catalogue:
    return random_catalogue(np.random.default_rng(0))


def test_a_packed_user_comes_back_as_it_was(catalogue: Catalogue) -> None:
    user = random_user(catalogue)
    back = affinity.unpack_user(affinity.pack_user(user, catalogue.taxonomy_version), catalogue.numbering)
    assert back.months == user.months
    for name in ("values", "counts", "cents"):
        for one, other in zip(getattr(user, name), getattr(back, name), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(back.redeemed, user.redeemed)


@pytest.mark.parametrize(("cents", "num_bytes"), [(2**32 - 1, 4), (2**32, 8), (2**52, 8), (-1, 8)])
def test_money_of_any_size_is_packed_whole_and_small_money_in_the_bytes_that_it_always_had(
    catalogue: Catalogue, cents: int, num_bytes: int
) -> None:
    plain = random_user(catalogue)
    before = affinity.pack_user(plain, catalogue.taxonomy_version)
    most = tuple(np.where(np.arange(len(one)) == 0, cents, one.astype(np.int64)) for one in plain.cents)
    packed = affinity.pack_user(replace(plain, cents=most), catalogue.taxonomy_version)
    back = affinity.unpack_user(packed, catalogue.numbering)
    for one, other in zip(most, back.cents, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(packed) - len(before) == (num_bytes - 4) * sum(len(one) for one in plain.values)
    same = tuple(one.astype(np.int64) for one in plain.cents)
    assert affinity.pack_user(replace(plain, cents=same), catalogue.taxonomy_version) == before
    joined_CK = join(back, catalogue.incidence(range(len(catalogue.campaign_types))))
    spend_C = joined_CK[:, CROSS_NAMES.index("affinity__product__spend_per_month")]
    own = [
        most[0][np.isin(plain.values[0], catalogue.item_axes_VA[catalogue.items_of(row), 0])].sum() / 100 / 5.5
        for row in range(len(catalogue.campaign_types))
    ]
    np.testing.assert_array_equal(spend_C, np.array(own, dtype=np.float32))


def test_the_join_is_the_count_by_hand(catalogue: Catalogue) -> None:
    user = random_user(catalogue)
    got_CK = join(user, catalogue.incidence([4, 7]))
    for place, row in enumerate((4, 7)):
        for axis, name in enumerate(AXES):
            promoted = set(catalogue.item_axes_VA[catalogue.items_of(row), axis].tolist())
            hit = np.isin(user.values[axis], list(promoted))
            coupon = user.counts[axis][MEASURES.index("coupon")][hit].sum()
            spend = user.cents[axis][hit].sum() / 100
            column = dict(zip(CROSS_NAMES, got_CK[place].tolist(), strict=True))
            assert column[f"affinity__{name}__coupon_per_month"] == pytest.approx(coupon / 5.5)
            assert column[f"affinity__{name}__spend_per_month"] == pytest.approx(spend / 5.5)
            assert column[f"affinity__{name}__campaign_coverage"] == pytest.approx(hit.sum() / len(promoted))
    assert column["affinity__same_type__targeted"] == {"A": 5, "B": 0, "C": 1}[catalogue.campaign_types[7]]


def test_one_request_and_a_batch_give_the_same_bits(catalogue: Catalogue) -> None:
    user = random_user(catalogue)
    batch_CK = join(user, catalogue.incidence(np.arange(9)))
    for row in range(9):
        assert join(user, catalogue.incidence([row])).tobytes() == batch_CK[row].tobytes()


def test_a_user_without_history_has_finite_affinities(catalogue: Catalogue) -> None:
    none = np.zeros(0, dtype=np.uint16)
    empty = UserAffinity(
        months=0.0,
        values=(none.astype(np.int32),) * len(AXES),
        counts=(np.zeros((len(MEASURES), 0), dtype=np.uint16),) * len(AXES),
        cents=(none.astype(np.uint32),) * len(AXES),
        types=none.astype(np.uint32),
        targeted=none,
        redeemed=none,
    )
    packed = affinity.pack_user(empty, catalogue.taxonomy_version)
    got_CK = join(affinity.unpack_user(packed, catalogue.numbering), catalogue.incidence([0, 1]))
    assert np.isfinite(got_CK).all()
    assert got_CK[:, CROSS_NAMES.index("affinity__product__lines_per_month")].tolist() == [0, 0]


def test_a_vector_with_other_ids_is_refused(catalogue: Catalogue) -> None:
    packed = affinity.pack_user(random_user(catalogue), catalogue.taxonomy_version)
    with pytest.raises(FeatureStoreError, match=rf"affinity: .*{catalogue.numbering.versions[-1]}.*{'0' * 16}"):
        affinity.unpack_user(packed, OTHER)


@pytest.mark.parametrize("damage", [b"", b"AFF1", b"nonsense" * 20])
def test_a_damaged_vector_is_refused(catalogue: Catalogue, damage: bytes) -> None:
    with pytest.raises(FeatureStoreError):
        affinity.unpack_user(damage, catalogue.numbering)
    packed = affinity.pack_user(random_user(catalogue), catalogue.taxonomy_version)
    with pytest.raises(FeatureStoreError, match=rf"affinity: .*\b{len(packed)}\b.*\b{len(packed) - 1}\b"):
        affinity.unpack_user(packed[:-1], catalogue.numbering)


def test_examples_of_many_users_are_the_rows_of_each_request(catalogue: Catalogue) -> None:
    empty = np.zeros(0)
    history = packed_history.pack_history(empty, empty, empty, empty, catalogue.taxonomy_version)
    shoppers = [
        examples.Shopper(
            user_id=f"user-{number}",
            portrait_P=np.array([number, np.nan], dtype=np.float32),
            portrait_names=("base__a", "base__b"),
            affinity=affinity.pack_user(random_user(catalogue, number), catalogue.taxonomy_version),
            history=history,
            feature_time_us=10,
        )
        for number in range(3)
    ]
    users_N, campaigns_N = np.array([2, 0, 1, 2]), np.array([3, 3, 8, 0])
    batch = examples.build(shoppers, users_N, campaigns_N, catalogue, np.full(4, 20))
    for pair, (user, campaign) in enumerate(zip(users_N, campaigns_N, strict=True)):
        one = examples.build([shoppers[user]], np.array([0]), np.array([campaign]), catalogue, np.array([20]))
        assert one.features_NF[0].tobytes() == batch.features_NF[pair].tobytes()
    with pytest.raises(FeatureStoreError, match="user user-0:"):
        examples.build(shoppers, np.array([0, 0]), np.array([0, 1]), catalogue, np.array([20, 21]))
    # One moment a user is not one a pair, and a single moment is not to be spread over all of them.
    for moments in (np.full(3, 20), np.full(1, 20)):
        with pytest.raises(ValueError, match=f"4 campaigns and {len(moments)} moments"):
            examples.build(shoppers, users_N, campaigns_N, catalogue, moments)
    with pytest.raises(FeatureStoreError, match=r"user user-0: .*base__a"):
        examples.build(
            [*shoppers, replace(shoppers[0], portrait_names=("base__c",))],
            users_N,
            campaigns_N,
            catalogue,
            np.full(4, 20),
        )


def test_a_history_keeps_the_last_baskets(catalogue: Catalogue) -> None:
    count = packed_history.MAX_BASKETS + 10
    times, lines = np.arange(count) * DAY_US, np.full(count, 2)
    packed = packed_history.pack_history(
        times, np.arange(count), lines, np.arange(2 * count), catalogue.taxonomy_version
    )
    got = packed_history.unpack_histories([packed], np.array([count * DAY_US]), catalogue.numbering)
    assert got.basket_offsets.tolist() == [0, packed_history.MAX_BASKETS]
    assert got.items_T.tolist() == list(range(20, 2 * count))
    assert got.age_days_B[-1] == 1.0
    assert got.spend_B[0] == 10.0
    with pytest.raises(FeatureStoreError, match=rf"history: .*{catalogue.numbering.versions[-1]}.*{'0' * 16}"):
        packed_history.unpack_histories([packed], np.array([0]), OTHER)


def test_a_value_that_the_catalogue_does_not_have_is_refused_and_not_taken_for_the_next_axis(
    catalogue: Catalogue,
) -> None:
    user = random_user(catalogue)
    beyond = np.append(user.values[2][:-1], len(catalogue.axis_values[2])).astype(np.int32)
    broken = replace(user, values=(*user.values[:2], beyond, *user.values[3:]))
    with pytest.raises(IndexError, match=f"{beyond[-1]}.*category"):
        affinity.match(broken, catalogue.incidence([1, 2]))
