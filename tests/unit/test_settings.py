"""Settings come from one TOML and the environment; what is misspelt is refused by name; secrets are never among them."""

from pathlib import Path

import pytest

from recommender.errors import SettingsError
from recommender.secrets import secret
from recommender.settings import Settings, load_settings, settings_from_json
from recommender.training.train import training_hash

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    file = folder / "recommender.toml"
    file.write_text(text)
    return file


def test_the_repository_s_own_file_is_valid() -> None:
    assert load_settings(ROOT / "recommender.toml").source.dataset == "complete_journey"


def test_a_misspelt_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"recommender\.toml.*serving\.prot"):
        load_settings(write(tmp_path, "[serving]\nprot = 9000\n"))


def test_a_wrong_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"serving\.port"):
        load_settings(write(tmp_path, "[serving]\nport = 'eight thousand'\n"))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"recommender\.toml"):
        load_settings(write(tmp_path, "[serving\nport"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: no such settings file"):
        load_settings(tmp_path / "absent.toml")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9123")
    assert load_settings(write(tmp_path, "[serving]\nport = 9000\n")).serving.port == 9123


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_SETTINGS", str(write(tmp_path, "[serving]\nport = 9001\n")))
    assert load_settings().serving.port == 9001


def test_a_step_sees_exactly_the_settings_that_the_pipeline_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ROOT / "recommender.toml")
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9999")
    assert settings_from_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://store:6379", "expected redis://"),
        ("redis:///0", "expected redis://"),
        ("redis://store:port", "Port could not be cast"),
        ("redis://store:0", "expected redis://"),
        ("redis://store:6379/campaigns", "the database 'campaigns' is no number"),
        ("redis://:s3cret@store:6379", "secret redis_password"),
    ],
)
def test_a_store_s_url_that_is_none_is_refused_when_the_settings_are_read(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"store\.redis_url.*{why}") as refused:
        load_settings(write(tmp_path, f"[store]\nkind = 'redis'\nredis_url = '{url}'\n"))
    with pytest.raises(SettingsError, match=why) as refused_by_a_step:
        settings_from_json(Settings().model_dump_json().replace("redis://127.0.0.1:6379/0", url))
    assert "s3cret" not in f"{refused.value} {refused_by_a_step.value}"


def test_a_store_s_url_may_leave_out_port_and_database_and_name_a_user(tmp_path: Path) -> None:
    for url in ("redis://store", "rediss://reader@store:6380/2", "redis://[::1]:6379/1"):
        assert load_settings(write(tmp_path, f"[store]\nredis_url = '{url}'\n")).store.redis_url == url


def test_ports_threads_and_other_rankers_do_not_change_what_is_trained_but_the_seed_does() -> None:
    base = Settings()
    other = Settings.model_validate({"training": {"rankers": {"logistic": {"strength": 1.0}}}})
    moved = Settings.model_validate({"serving": {"port": 9000}, "training": {"threads": 8}})
    seeded = Settings.model_validate({"training": {"seed": 18}})
    hashes = [training_hash(settings, "transformer") for settings in (base, moved, other, seeded)]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert training_hash(base, "logistic") != training_hash(other, "logistic")


def test_a_secret_is_read_from_its_mounted_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("RECOMMENDER_SECRETS", str(tmp_path))
    monkeypatch.setenv("RECOMMENDER_TOKEN", "other")
    assert secret("token") == "s3cret"


def test_an_unset_secret_is_none_but_an_empty_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECOMMENDER_SECRETS", raising=False)
    monkeypatch.delenv("RECOMMENDER_TOKEN", raising=False)
    assert secret("token") is None
    monkeypatch.setenv("RECOMMENDER_TOKEN", " ")
    with pytest.raises(SettingsError, match="RECOMMENDER_TOKEN is set but empty"):
        secret("token")
