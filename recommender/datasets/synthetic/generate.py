"""Draws a synthetic world and writes it as canonical tables, with the true probabilities beside them.

Shapes: U users · C campaigns.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.synthetic.campaigns import Outcomes, campaign_frames, draw_outcomes
from recommender.datasets.synthetic.events import event_frame
from recommender.datasets.synthetic.shop import Shop, draw_shop, item_frame, user_frame
from recommender.datasets.synthetic.world import World
from recommender.datasets.tables import Tables
from recommender.datasets.write import write_tables


def generate(world: World, output: Path) -> Tables:
    """Write a world as canonical tables, with the true probabilities in `truth/pairs.parquet` beside them.

    The same world gives the same bytes.
    """
    rng = np.random.default_rng([world.seed, 20])  # 20 has no meaning; another number would give other worlds.
    shop = draw_shop(world, rng)
    outcomes = draw_outcomes(world, shop, rng)
    frames = {
        "users": user_frame(shop),
        "items": item_frame(shop),
        "events": event_frame(world, shop, outcomes, rng),
        **campaign_frames(world, shop, outcomes),
    }
    return write_tables(
        frames,
        output,
        source="synthetic",
        time_zone=world.time_zone,
        decisions=[
            "A synthetic world: "
            + ", ".join(f"{field.name} {getattr(world, field.name)}" for field in fields(world))
            + ".",
            "Targets are drawn independently with the propensities in the table.",
            "Participations after the log's end are not recorded.",
        ],
        beside={"truth/pairs.parquet": _truth_frame(shop, outcomes)},
    )


def _truth_frame(shop: Shop, outcomes: Outcomes) -> pa.Table:
    """Build a row for every user and campaign: `propensity`, `participation` (probability if targeted), `targeted`."""
    num_campaigns, num_users = outcomes.propensity_CU.shape
    user_U: NDArray[np.object_] = np.array(shop.user_ids, dtype=object)
    return pa.table(
        {
            "campaign_id": pa.array(np.repeat(np.array(outcomes.campaign_ids, dtype=object), num_users), pa.string()),
            "user_id": pa.array(np.tile(user_U, num_campaigns), pa.string()),
            "propensity": outcomes.propensity_CU.ravel(),
            "participation": outcomes.probability_CU.ravel(),
            "targeted": outcomes.targeted_CU.ravel(),
        }
    )
