"""What counts as "now" for `recommender serve`: the clock while the features are fresh, else their moment."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.now import as_materialised
from cli.options import Now
from recommender.errors import SettingsError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home


def materialised(folder: Path, age: timedelta) -> tuple[Settings, datetime]:
    """A home whose features are so old."""
    settings, as_of = Settings(home=folder / "home"), datetime.now(UTC) - age
    root = Home.of(settings).feature_store.root
    root.mkdir(parents=True)
    ServingSchema(
        project="campaigns",
        view="user_serving",
        field="packed",
        join_key="user_id",
        entity_key_serialization_version=3,
        layouts=((),),
        features_hash="a",
        catalogue_hash="b",
        as_of=as_of.isoformat(),
    ).save(root)
    return settings, as_of


@pytest.mark.parametrize(
    ("days", "chosen", "is_clock"),
    [
        (7.9, None, True),
        (8.1, None, False),
        (-0.1, None, False),  # nobody has bought tomorrow: a clock is wrong, or the data are invented
        (8.1, Now.CLOCK, True),
        (7.9, Now.FEATURES, False),
    ],
)
def test_now_is_the_clock_while_the_features_are_fresh_unless_it_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: float, chosen: Now | None, is_clock: bool
) -> None:
    settings, as_of = materialised(tmp_path, timedelta(days=days))
    found = as_materialised(settings, chosen)
    assert found.time.as_of == (None if is_clock else as_of)
    printed = capsys.readouterr().out
    assert printed.startswith('"now" is the clock' if is_clock else f'"now" is fixed at {as_of.isoformat()}')
    assert ("max_age_hours" in printed) == (chosen is None)
    assert "An event without a time gets" in printed


def test_a_moment_that_is_set_stays_and_contradicts_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = materialised(tmp_path, timedelta(hours=1))
    settings = settings.updated(time={"as_of": "2017-12-31"})
    assert as_materialised(settings) == settings
    assert "2017-12-31" in capsys.readouterr().out
    with pytest.raises(SettingsError, match=r"--now clock.*2017-12-31"):
        as_materialised(settings, Now.CLOCK)
