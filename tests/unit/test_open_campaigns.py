"""A campaign that is open leaves no trace of itself in the features that speak for or against it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.periods import microseconds
from recommender.features import build
from recommender.matching.affinity import pack_user, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Shopper
from recommender.matching.examples import build as build_examples
from recommender.matching.looks import Looks
from recommender.matching.numbering import NAME_BYTES, OWN_BYTES
from recommender.matching.open_campaigns import OpenCampaigns, campaign_code

STARTED = AS_OF - timedelta(days=10)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with the campaign `now`, which is open at `AS_OF`, targeted at the first user and at nobody else."""
    made = Shop.generate(tmp_path_factory.mktemp("generated"))
    first = made.frames["campaigns"].to_pylist()[0]
    made = made.adding(
        "campaigns", [{**first, "campaign_id": "now", "starts_at": STARTED, "ends_at": AS_OF + timedelta(days=30)}]
    )
    items = made.frames["campaign_items"].filter(
        pc.equal(made.frames["campaign_items"]["campaign_id"], first["campaign_id"])
    )
    return made.adding("campaign_items", [{**row, "campaign_id": "now"} for row in items.to_pylist()])


def user_of(shop: Shop) -> str:
    """A user with a past in campaigns."""
    return str(shop.frames["participations"]["user_id"][0].as_py())


def with_target(shop: Shop) -> Shop:
    return shop.adding("targets", [{"campaign_id": "now", "user_id": user_of(shop), "targeted_at": STARTED}])


def with_participation(shop: Shop) -> Shop:
    taken = {"campaign_id": "now", "user_id": user_of(shop), "participated_at": AS_OF - timedelta(days=2)}
    return shop.adding("participations", [taken])


def built(shop: Shop, folder: Path) -> tuple[Catalogue, Shopper]:
    """The catalogue, and the shop's user at `AS_OF` as the feature store would hold them."""
    build(shop.write(folder / "tables"), folder / "features", as_of=AS_OF, threads=1)
    users = pq.ParquetFile(folder / "features" / "users.parquet").read()
    mine = pc.and_(pc.equal(users["user_id"], user_of(shop)), pc.equal(users["event_timestamp"], pa.scalar(AS_OF)))
    row = users.filter(mine).to_pylist()[0]
    names = tuple(name for name in users.column_names if "__" in name)
    portrait_P = np.array([row[name] for name in names], dtype=np.float32)
    shopper = Shopper(user_of(shop), portrait_P, names, row["affinity"], row["history"], microseconds(AS_OF))
    return Catalogue.load(folder / "features" / "catalogue"), shopper


def scored(catalogue: Catalogue, shopper: Shopper, campaign_id: str = "now") -> Examples:
    rows = np.array([catalogue.campaign_rows[campaign_id]], dtype=np.int32)
    moment = np.array([microseconds(AS_OF)])
    return build_examples([shopper], np.zeros(1, dtype=np.int32), rows, catalogue, moment)


def of_the_user(examples: Examples) -> dict[str, float]:
    """The pair's features that depend on the user."""
    values = zip(examples.feature_names, examples.features_NF[0].tolist(), strict=True)
    return {name: value for name, value in values if not name.startswith("campaign__")}


def test_a_campaign_that_a_user_was_targeted_by_or_took_up_changes_none_of_its_own_features(
    shop: Shop, tmp_path: Path
) -> None:
    without = of_the_user(scored(*built(shop, tmp_path / "without")))
    targeted = of_the_user(scored(*built(with_target(shop), tmp_path / "targeted")))
    taken_up = of_the_user(scored(*built(with_participation(with_target(shop)), tmp_path / "taken_up")))
    untargeted = of_the_user(scored(*built(with_participation(shop), tmp_path / "untargeted")))
    assert without["behaviour__campaigns_targeted"] > 0
    for other in (targeted, taken_up, untargeted):
        np.testing.assert_array_equal(list(other.values()), list(without.values()))


def test_it_is_evidence_about_other_campaigns(shop: Shop, tmp_path: Path) -> None:
    catalogue, shopper = built(with_participation(with_target(shop)), tmp_path)
    others = [name for name in catalogue.campaign_ids if name != "now"]
    own, other = (of_the_user(scored(catalogue, shopper, name)) for name in ("now", others[0]))
    assert other["behaviour__campaigns_redeemed"] == own["behaviour__campaigns_redeemed"] + 1
    assert other["behaviour__open_campaigns_redeemed"] == own["behaviour__open_campaigns_redeemed"] + 1


def test_a_users_vector_knows_what_was_taken_up_and_when_the_user_was_targeted(shop: Shop, tmp_path: Path) -> None:
    later = shop.adding(
        "targets", [{"campaign_id": "now", "user_id": user_of(shop), "targeted_at": AS_OF - timedelta(days=4)}]
    )
    for number, (made, taken, days) in enumerate(
        (
            (shop, False, 10),
            (later, False, 4),
            (with_participation(later), True, 4),
            (with_participation(shop), True, 10),
        )
    ):
        catalogue, shopper = built(made, tmp_path / str(number))
        user = unpack_user(shopper.affinity, catalogue.numbering)
        rows = [catalogue.campaign_rows["now"]]
        assert user.taken_up(catalogue.campaign_codes_C[rows]).tolist() == [taken]
        horizon = scored(catalogue, shopper).horizon
        assert horizon is not None
        assert horizon.targeted_us_N.tolist() == [microseconds(AS_OF - timedelta(days=days))]


def test_open_campaigns_survive_packing_and_values_from_before_them_are_still_read(shop: Shop, tmp_path: Path) -> None:
    catalogue, shopper = built(with_participation(with_target(shop)), tmp_path)
    user = unpack_user(shopper.affinity, catalogue.numbering)
    assert campaign_code("now") in user.open.codes_O.tolist()
    again = unpack_user(pack_user(user, catalogue.taxonomy_version), catalogue.numbering)
    for name in ("codes_O", "targeted_us_O", "counted_O", "redeemed_O", "columns_H", "habits_OH"):
        np.testing.assert_array_equal(getattr(again.open, name), getattr(user.open, name))
    nothing_open = pack_user(replace(user, open=OpenCampaigns.none(), looks=Looks.none()), catalogue.taxonomy_version)
    one_state, months = nothing_open[4 : 4 + OWN_BYTES], 4 + NAME_BYTES
    before = b"AFF1" + one_state + nothing_open[months:-8]
    old = unpack_user(before, catalogue.numbering)
    assert len(old.open.codes_O) == 0
    assert old.redeemed.tolist() == user.redeemed.tolist()
