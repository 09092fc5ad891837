"""A worker answers requests of a real shape before it is READY, and one that cannot is not served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shop, candidate

from recommender.errors import ServingError
from recommender.matching.affinity import unpack_user
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.registry import bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from serving import wire
from serving.worker.answering import Answering
from serving.worker.warm_up import VALUES, bodies

NUMBER = 6


@pytest.fixture
def settings(shop: Shop, tmp_path: Path) -> Settings:
    return shop.settings.updated(isolation={"warm_up_requests": NUMBER}, serving={"state": tmp_path / "state"})


@pytest.fixture
def loaded(shop: Shop, tmp_path: Path) -> Path:
    return candidate(shop, tmp_path / "candidate") / "fits" / "live"


def test_its_users_reach_from_a_newcomer_to_one_with_a_full_history(shop: Shop) -> None:
    schema, catalogue = ServingSchema.load(Home.of(shop.settings).feature_store.root), shop.catalogue
    as_of_us = round(shop.as_of.timestamp() * 1e6)
    made = list(bodies(shop.settings, catalogue, schema.layouts[0], as_of_us=as_of_us, number=NUMBER, key=bytes(16)))
    users = []
    for body in made:
        asked, packed, *_ = wire.decode(body)
        shopper = unpack(asked.request.user_id, packed, schema.by_layout())
        assert np.isfinite(shopper.portrait_P).all()
        users.append(unpack_user(shopper.affinity, catalogue.numbering))
    products = [len(user.values[0]) for user in users]
    assert products[0] == 0
    assert products == sorted(products)
    assert products[-1] == min(VALUES, len(catalogue.axis_values[0]) - 1)
    assert all(values.min() > 0 and values.max() < len(catalogue.axis_values[0]) for values, *_ in [users[-1].values])


@pytest.mark.parametrize("last_fails", [False, True])
def test_a_version_answers_as_many_requests_as_it_is_told_or_does_not_load(
    settings: Settings, loaded: Path, monkeypatch: pytest.MonkeyPatch, last_fails: bool
) -> None:
    ranker: Any = type(bundle.load(loaded))
    real, asked = ranker.ranked, []

    def ranked(self: Any, examples: Any) -> Any:
        asked.append(examples)
        if last_fails and len(asked) == NUMBER:
            raise ValueError("too many values")
        return real(self, examples)

    monkeypatch.setattr(ranker, "ranked", ranked)
    if last_fails:
        with pytest.raises(ServingError, match=r"v1 .*500"):
            Answering(settings, "v1", loaded)
    else:
        Answering(settings, "v1", loaded).close()
    assert len(asked) == NUMBER
