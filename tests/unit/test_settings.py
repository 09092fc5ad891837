"""Settings come from a TOML file and the environment, refuse misspelt keys by name, and never hold secrets."""

import json
from datetime import date
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from feature_repo.online_stores import WRITERS
from recommender.datasets.sources import SOURCES, source_of
from recommender.errors import SettingsError
from recommender.secrets import secret
from recommender.settings import (
    OnlineStoreName,
    Settings,
    SourceSettings,
    StoreSettings,
    TimeSettings,
    load_settings,
    settings_from_json,
)
from recommender.training.identity import training_hash
from serving.online_store.client import READERS

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    file = folder / "recommender.toml"
    file.write_text(text)
    return file


def test_the_repository_s_own_file_is_valid() -> None:
    assert load_settings(ROOT / "recommender.toml").source.dataset == "complete_journey"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[serving]\nprot = 9000\n", "serving.prot", "port"),
        ("[servng]\nport = 9000\n", "servng", "serving"),
        ("[training]\nbaseline = []\n", "training.baseline", "baselines"),
    ],
)
def test_a_misspelt_key_is_refused_with_its_file_and_the_nearest_right_one(
    tmp_path: Path, text: str, key: str, meant: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(write(tmp_path, text))
    message = str(refused.value)
    assert "recommender.toml" in message
    assert f"{key}:" in message
    assert repr(meant) in message


@pytest.mark.parametrize(
    ("variable", "key", "meant"),
    [
        ("RECOMMENDER__SERVING__PROT", "serving.prot", "port"),
        ("RECOMMENDER__SERVNG__PORT", "servng", "serving"),
    ],
)
def test_a_misspelt_key_in_the_environment_is_refused_with_its_variable_and_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, key: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "9000")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert variable in message
    assert f"{key}:" in message
    assert repr(meant) in message


def test_a_key_that_is_like_no_other_is_refused_with_all_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"store\.zzz.*kind.*project.*redis_url"):
        load_settings(write(tmp_path, "[store]\nzzz = 1\n"))


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("[serving]\nport = 'eight thousand'\n", "serving.port", "eight thousand"),
        ("[serving]\nport = 65536\n", "serving.port", "65536"),
        ("[time]\nas_of = 'yesterday'\n", "time.as_of", "yesterday"),
        ("[store]\nkind = 'memcached'\n", "store.kind", "memcached"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_its_key(tmp_path: Path, text: str, key: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(write(tmp_path, text))
    assert f"{key}:" in str(refused.value)
    assert value in str(refused.value)


def test_an_unknown_online_store_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(write(tmp_path, "[store]\nkind = 'memcached'\n"))
    assert all(name in str(refused.value) for name in get_args(OnlineStoreName))


def test_every_online_store_of_the_settings_has_a_reader_and_a_writer() -> None:
    assert set(READERS) == set(WRITERS) == set(get_args(OnlineStoreName))


def test_an_unknown_data_source_is_refused_with_the_nearest_and_all_that_there_are() -> None:
    with pytest.raises(SettingsError) as refused:
        source_of(SourceSettings(dataset="file"))
    message = str(refused.value)
    assert "source.dataset" in message
    assert "'file'" in message
    assert all(name in message for name in SOURCES)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"recommender\.toml"):
        load_settings(write(tmp_path, "[serving\nport"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml")


def test_the_environment_wins_over_the_file_and_an_override_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "[serving]\nport = 9000\nworkers = 3\n")
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9123")
    settings = load_settings(file)
    assert (settings.serving.port, settings.serving.workers) == (9123, 3)
    settings = load_settings(file, serving={"port": 9124})
    assert (settings.serving.port, settings.serving.workers) == (9124, 3)


def test_the_environment_takes_any_case_of_letters_and_json_for_lists_tables_and_whole_sections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("recommender__training__baselines", '["rate_rule", "logistic"]')
    monkeypatch.setenv("RECOMMENDER__TRAINING__RANKERS__LOGISTIC__STRENGTH", "0.5")
    monkeypatch.setenv("RECOMMENDER__SOURCE__SYNTHETIC", '{"num_users": 100, "preference": "affinity"}')
    monkeypatch.setenv("RECOMMENDER__SOURCE__SYNTHETIC__PREFERENCE", "sequence")
    monkeypatch.setenv("RECOMMENDER__SERVING", '{"port": 9001, "workers": 3}')
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9002")
    settings = load_settings()
    assert settings.training.baselines == ("rate_rule", "logistic")
    assert settings.training.rankers == {"logistic": {"strength": 0.5}}
    assert settings.source.synthetic == {"num_users": 100, "preference": "sequence"}
    assert (settings.serving.port, settings.serving.workers) == (9002, 3)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RECOMMENDER__TRAINING__BASELINES", "popularity"),
        ("RECOMMENDER__SERVING", "{"),
        ("RECOMMENDER__SERVING__PORT__NUMBER", "1"),
    ],
)
def test_a_variable_of_another_form_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9000")
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=variable):
        load_settings()


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_SETTINGS", str(write(tmp_path, "[serving]\nport = 9001\n")))
    assert load_settings().serving.port == 9001


def test_a_step_sees_exactly_the_settings_that_the_pipeline_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ROOT / "recommender.toml")
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9999")
    assert settings_from_json(settings.model_dump_json()) == settings


def test_a_step_that_was_given_only_some_of_the_settings_refuses_them() -> None:
    with pytest.raises(SettingsError, match="judgement"):
        settings_from_json('{"home": "var"}')


def test_settings_change_only_by_validation() -> None:
    settings = Settings(time=TimeSettings(as_of=date(2017, 12, 31)))
    changed = settings.updated(home="elsewhere", serving={"port": 9000}, time={"test_from": date(2017, 10, 1)})
    assert (changed.home, changed.serving.port) == (Path("elsewhere"), 9000)
    assert (changed.time.as_of, changed.time.test_from) == (date(2017, 12, 31), date(2017, 10, 1))
    assert changed.updated(time=TimeSettings()).time.as_of is None
    for wrong in ({"serving": {"port": 0}}, {"serving": {"prot": 1}}, {"hme": "x"}):
        with pytest.raises(SettingsError, match=r"port|hme"):
            settings.updated(**wrong)
    with pytest.raises(ValidationError):
        settings.home = Path("elsewhere")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("http://store:6379", "redis://"),
        ("redis:///0", "redis://"),
        ("redis://store:s3cret", "redis://"),
        ("redis://store:0", "redis://"),
        ("redis://store:6379/campaigns", "'campaigns'"),
        ("redis://:s3cret@store:6379", "redis_password"),
    ],
)
def test_a_wrong_url_of_the_store_is_refused_when_the_settings_are_read_and_its_password_is_not_repeated(
    tmp_path: Path, url: str, fact: str
) -> None:
    with pytest.raises(SettingsError, match=rf"store\.redis_url.*{fact}") as refused:
        load_settings(write(tmp_path, f"[store]\nkind = 'redis'\nredis_url = '{url}'\n"))
    with pytest.raises(SettingsError, match=rf"store\.redis_url.*{fact}") as refused_by_a_step:
        settings_from_json(Settings().model_dump_json().replace("redis://127.0.0.1:6379/0", url))
    with pytest.raises(SettingsError, match="store") as section:
        load_settings(write(tmp_path, f"store = '{url}'\n"))
    assert "s3cret" not in f"{refused.value} {refused_by_a_step.value} {section.value}"


def test_a_store_s_url_may_leave_out_port_and_database_and_name_a_user(tmp_path: Path) -> None:
    for url in ("redis://store", "rediss://reader@store:6380/2", "redis://[::1]:6379/1"):
        assert load_settings(write(tmp_path, f"[store]\nredis_url = '{url}'\n")).store.redis_url == url


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("mysql://u@db/d", "postgresql://"),
        ("postgresql://db/d", "postgresql://user@"),
        ("postgresql://u@db", "postgresql://"),
        ("postgresql://u@db:0/d", "postgresql://"),
        ("postgresql://u@db:s3cret/d", "65535"),
        ("postgresql://u:s3cret@db/d", "postgres_password"),
        ("postgresql://u@db/d?password=s3cret", "postgres_password"),
        ("postgresql://u@db/d?sslmod=require", "'sslmod'"),
        ("postgresql://u@db/d?sslmode=always", "'always'"),
    ],
)
def test_an_address_of_postgresql_that_is_none_or_holds_a_password_is_refused(
    tmp_path: Path, url: str, fact: str
) -> None:
    with pytest.raises(SettingsError, match=rf"store\.postgres_url.*{fact}") as refused:
        load_settings(write(tmp_path, f"[store]\nkind = 'postgres'\npostgres_url = '{url}'\n"))
    assert "s3cret" not in str(refused.value)


def test_an_address_of_postgresql_has_its_parts(tmp_path: Path) -> None:
    url = "postgresql://a%20user@db.example:6432/shop?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    address = load_settings(write(tmp_path, f"[store]\npostgres_url = '{url}'\n")).store.postgres
    assert (address.user, address.host, address.port, address.database) == ("a user", "db.example", 6432, "shop")
    assert (address.sslmode, address.sslrootcert) == ("verify-full", "/etc/ca.pem")
    socket = StoreSettings(postgres_url="postgresql://u@/d?host=/run/postgresql").postgres
    assert (socket.host, socket.port) == ("/run/postgresql", 5432)


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
    with pytest.raises(SettingsError, match="RECOMMENDER_TOKEN"):
        secret("token")


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"serving\.engine") as refused:
        settings_from_json('{"serving": {"engine": "triton"}}')
    assert all(name in str(refused.value) for name in ("torchserve", "in_process", "oip"))


def test_a_server_of_the_open_inference_protocol_needs_an_address() -> None:
    with pytest.raises(SettingsError, match="oip_url"):
        settings_from_json('{"serving": {"engine": "oip"}}')


def test_settings_that_do_not_fit_together_name_the_variable_that_holds_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECOMMENDER__SERVING__PORT", "9000")
    monkeypatch.setenv("RECOMMENDER__SERVING__ENGINE", "oip")
    with pytest.raises(SettingsError, match=r"RECOMMENDER__SERVING__ENGINE.*oip_url"):
        load_settings()


@pytest.mark.parametrize("key", ["health_port", "inference_port", "management_port", "metrics_port"])
def test_two_servers_of_one_replica_cannot_share_a_port(key: str) -> None:
    with pytest.raises(SettingsError, match=rf"`port` and `{key}`.*9000"):
        settings_from_json(json.dumps({"serving": {"port": 9000, key: 9000}}))


def test_ports_of_torchserve_are_free_for_others_where_another_engine_scores() -> None:
    assert Settings.model_validate({"serving": {"engine": "in_process", "port": 8080}}).serving.port == 8080
