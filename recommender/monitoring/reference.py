"""The reference that training keeps: how the features of users, of campaigns and of both together were distributed.

Monitoring compares a newer feature set with it. It is small (some 100 kB for 200 features) and names no user.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.errors import CorruptFileError
from recommender.matching.catalogue import Catalogue
from recommender.monitoring.campaigns import CampaignFeatures, CandidateFeatures
from recommender.monitoring.distributions import Distribution

FORMAT = 1
"""Version of the file. Raise it when a reader of the old one would misread the new one."""


class Reference(BaseModel):
    """The distributions of all features of one feature set, at its own moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    as_of: datetime
    data_hash: str
    num_users: int
    features: dict[str, Distribution]
    """Of users."""
    campaigns: CampaignFeatures | None = None
    """Of campaigns that had started. None: written by a release that did not keep them."""
    candidates: CandidateFeatures | None = None
    """Of users with their candidates. None: as above."""

    @classmethod
    def of(cls, users: pa.Table, catalogue: Catalogue, *, as_of: datetime, data_hash: str) -> "Reference":
        """Of everybody at `as_of`: the rows of a feature set's users.parquet at that moment, and of its campaigns."""
        now = at_moment(users, as_of)
        features = {name: Distribution.of(column(now, name)) for name in feature_names(now)}
        return cls(
            as_of=as_of,
            data_hash=data_hash,
            num_users=now.num_rows,
            features=features,
            campaigns=CampaignFeatures.started(catalogue, as_of),
            candidates=CandidateFeatures.of(now, catalogue, as_of),
        )

    @classmethod
    def read(cls, file: Path) -> "Reference":
        """Read what `text` wrote.

        Raises:
            CorruptFileError: the file is missing or no reference of this format.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content.get("format") != FORMAT:
                raise CorruptFileError(f"{file}: format must be {FORMAT} (got {content.get('format')!r}); train again")
            return cls.model_validate(content)
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptFileError(f"{file}: no reference of features ({reason}); train again") from None

    def text(self) -> str:
        """As JSON."""
        return self.model_dump_json()


def at_moment(users: pa.Table, as_of: datetime) -> pa.Table:
    """The rows of users.parquet at `as_of`."""
    import pyarrow.compute as pc

    return users.filter(pc.equal(users["event_timestamp"], pa.scalar(as_of, pa.timestamp("us", tz="UTC"))))


def feature_names(users: pa.Table) -> list[str]:
    """Names of the features of users.parquet, in its order."""
    return portrait_columns(users.column_names)


def portrait_columns(names: Iterable[str]) -> list[str]:
    """Of the columns of users.parquet those that are features: `<kind>__<name>`."""
    return [name for name in names if "__" in name]


def column(users: pa.Table, name: str) -> NDArray[np.float32]:
    """A feature's values, float32 [U], NaN where missing."""
    return np.asarray(users[name].to_numpy(), dtype=np.float32)
