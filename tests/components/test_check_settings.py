"""The first step turns a run's parameters into one settings object, and says in a sentence what would stop the run."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import NOBODY, free_ports, valkey

from components import step
from components.check_settings.check import checked
from components.check_settings.component import check_settings
from components.check_settings.derive import Derived
from components.check_settings.parameters import KEYS, UNUSED, base_settings, defaults, settings_of_run
from components.check_settings.surroundings import check_registry, check_surroundings, check_volume
from components.step import DETAILS, patiently, running
from recommender.datasets.identity import source_identity
from recommender.errors import (
    FeatureStoreError,
    RegistryError,
    SettingsError,
    SourceError,
    StoreAway,
    ValidationFailed,
)
from recommender.registry import Registry
from recommender.settings import Settings, load_settings, settings_from_json

ROOT = Path(__file__).parents[2]
SMALL = {"num_users": 50, "num_items": 20, "num_campaigns": 4, "num_categories": 4}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    rules = tmp_path / "rules.toml"
    rules.write_text("[gate]\nmin_campaigns = 8\n")
    source = {"dataset": "synthetic", "synthetic": SMALL}
    return Settings().updated(home=tmp_path / "home", judgement=rules, source=source)


def run_of(settings: Settings, **given: Any) -> Settings:
    return settings_of_run(base_settings(settings), defaults(settings) | given)


@pytest.mark.parametrize("file", ["recommender.toml", "k8s/base/recommender.toml"])
def test_the_defaults_of_a_settings_file_give_that_file_s_settings_to_the_last_date(file: str) -> None:
    settings = load_settings(ROOT / file)
    again = run_of(settings)
    # Only what no step reads is left out.
    for section in Settings.model_fields.keys() - UNUSED.keys():
        assert getattr(again, section) == getattr(settings, section)
    assert type(again.time.as_of) is type(settings.time.as_of)


def test_every_parameter_reaches_its_key(settings: Settings) -> None:
    given = {
        "as_of": "2024-05-01T18:00",
        "gate_from": "2024-01-01",
        "test_from": "2024-03-01",
        "gate_campaigns": 7,
        "challenger": "sasrec",
        "baselines": "popularity,  logistic,",
        "trials": 12,
        "device": "cuda",
        "canary_share": 0.25,
        "source": "/var/recommender/shop/mapping.toml",
    }
    assert set(given) == set(KEYS)
    found = json.loads(run_of(settings, **given).model_dump_json())
    assert found["time"] == {
        "as_of": "2024-05-01T18:00:00",
        "gate_from": "2024-01-01",
        "test_from": "2024-03-01",
        "gate_campaigns": 7,
    }
    training = found["training"]
    assert (training["challenger"], training["baselines"]) == ("sasrec", ["popularity", "logistic"])
    assert (training["trials"], training["device"]) == (12, "cuda")
    assert found["serving"]["canary_share"] == 0.25
    assert found["source"] == {"dataset": "files", "mapping": given["source"], "synthetic": SMALL}


def test_an_override_changes_other_settings_and_a_whole_number_stays_one(settings: Settings) -> None:
    # KFP passes every number in a STRUCT as a float.
    found = run_of(settings, settings_override={"training": {"seed": 18.0, "rankers": {"sasrec": {"width": 32.0}}}})
    assert found.training.seed == 18
    assert found.training.rankers == {"sasrec": {"width": 32}}
    assert type(found.training.rankers["sasrec"]["width"]) is int
    assert found.training.challenger == settings.training.challenger


def test_an_override_of_monitoring_reaches_the_step_that_materialises(settings: Settings) -> None:
    assert not settings.monitoring.accept_vanished_columns
    found = run_of(settings, settings_override={"monitoring": {"accept_vanished_columns": True}})
    # Steps that are never cached, as materialise, get all settings.
    assert settings_from_json(Derived.of(found).settings).monitoring.accept_vanished_columns is True


def test_what_looks_count_reaches_the_step_that_builds_features(settings: Settings) -> None:
    found = run_of(settings, settings_override={"looks": {"learn": False, "weight": {"cart": 3}}})
    assert settings_from_json(Derived.of(found).data_settings).looks == found.looks
    assert (found.looks.learn, found.looks.weight) == (False, {"cart": 3.0})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"challenger": "transfomer"}, r"^challenger: .*'transfomer'.*'transformer'"),
        ({"baselines": "popularity, logistik"}, r"^baselines: .*'logistik'.*'logistic'"),
        ({"baselines": " , "}, r"^baselines is empty"),
        ({"device": "gpu"}, r"^device: .*'cpu' or 'cuda'.*'gpu'"),
        ({"device": "cuda", "challenger": "rules"}, r"^device is 'cuda'.*'rules'"),
        ({"trials": -1}, r"^trials: .*-1"),
        ({"trials": 5, "challenger": "popularity"}, r"^trials: popularity"),
        ({"canary_share": 1.5}, r"^canary_share: .*1\.5"),
        ({"as_of": "yesterday"}, r"^as_of: 'yesterday'.*2017-12-31"),
        ({"gate_from": "20170501"}, r"^gate_from: '20170501'"),
        ({"source": "complete_jurney"}, r"^source: .*'complete_jurney'.*complete_journey"),
        ({"source": "shop/absent.toml"}, r"shop/absent\.toml"),
        ({"settings_override": {"training": {"sede": 1}}}, r"^settings_override: training\.sede: .*'seed'"),
        ({"settings_override": {"training": {"device": "cuda"}}}, r"^settings_override: training\.device.*set device"),
        ({"settings_override": {"source": {"mapping": "x"}}}, r"^settings_override: source\.mapping.*set source"),
        ({"settings_override": {"home": "/tmp"}}, r"^settings_override: home is fixed"),
        ({"settings_override": {"store": {"kind": "redis"}}}, r"^settings_override: store is fixed"),
        ({"settings_override": {"training": {"rankers": {"sasrec": {"widht": 1}}}}}, r"sasrec.*'widht'.*'width'"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_to_do(
    settings: Settings, given: dict[str, Any], named: str
) -> None:
    with pytest.raises((SettingsError, SourceError), match=named) as refused:
        checked(base_settings(settings), {}, defaults(settings) | given)
    assert "\n" not in str(refused.value)


def test_another_port_share_or_seed_of_serving_makes_no_cached_step_run_again(settings: Settings) -> None:
    before, after = (
        Derived.of(one)
        for one in (
            settings,
            settings.updated(
                serving={"port": 9000, "canary_share": 0.3}, cluster={"deadline_hours": 1}, isolation={"failures": 9}
            ),
        )
    )
    assert before.settings != after.settings
    assert before.data_settings == after.data_settings
    assert before.challenger_settings == after.challenger_settings
    assert (before.baselines, before.code) == (after.baselines, after.code)


def test_another_challenger_trials_or_device_trains_no_baseline_again_and_reads_no_data_again(
    settings: Settings,
) -> None:
    before = Derived.of(settings)
    training = {"challenger": "sasrec", "trials": 3, "device": "cuda", "rankers": {"sasrec": {"width": 32}}}
    after = Derived.of(settings.updated(training=training))
    assert (before.baselines, before.data_settings) == (after.baselines, after.data_settings)
    assert before.challenger_settings != after.challenger_settings
    assert before.code["train_ranker"] != after.code["train_ranker"]


def test_a_baseline_s_hyperparameter_trains_that_baseline_alone_again(settings: Settings) -> None:
    before, after = (
        {one["ranker"]: one for one in Derived.of(changed).baselines}
        for changed in (settings, settings.updated(training={"rankers": {"logistic": {"strength": 0.5}}}))
    )
    assert [name for name in before if before[name] != after[name]] == ["logistic"]


def test_rules_that_demand_more_campaigns_reach_every_step_that_chooses_periods(settings: Settings) -> None:
    made = checked(base_settings(settings), {}, defaults(settings))
    for text in (made.settings, made.data_settings, made.challenger_settings, made.baselines[0]["settings"]):
        assert json.loads(text)["time"]["gate_campaigns"] == 8
    assert made.source_identity == source_identity(settings.source)


def test_the_device_chooses_image_accelerator_and_tolerations(settings: Settings) -> None:
    gpu = {"image": "shop/pipeline:1-gpu", "resource": "nvidia.com/gpu", "count": "2", "tolerations": [{"key": "gpu"}]}
    places = {"devices": {"cpu": {**gpu, "image": "shop/pipeline:1", "resource": "", "count": ""}, "cuda": gpu}}
    on_gpu = checked(base_settings(settings), places, defaults(settings) | {"device": "cuda"})
    assert (on_gpu.image, on_gpu.accelerator, on_gpu.accelerators) == ("shop/pipeline:1-gpu", "nvidia.com/gpu", "2")
    assert on_gpu.tolerations == [{"key": "gpu"}]
    assert checked(base_settings(settings), places, defaults(settings)).accelerator == ""


def test_a_home_without_its_volume_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"no volume is mounted at {tmp_path}.*cluster\.claim"):
        check_volume(settings.home, volume=str(tmp_path))
    check_volume(settings.home, volume="/")


def test_a_fresh_volume_that_belongs_to_root_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o555)
    code = "import sys; sys.path[:0] = sys.argv[2:]; from components.check_settings.surroundings import check_volume\n"
    code += "from pathlib import Path; import os\n"
    # The modules are imported already, so that the user without rights need not read them.
    code += f"os.getuid() or (os.setgid({NOBODY}), os.setuid({NOBODY}))\ncheck_volume(Path(sys.argv[1]))"
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(ROOT)], capture_output=True, text=True, check=False
    )
    user = NOBODY if os.getuid() == 0 else os.getuid()
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"recommender.errors.SettingsError: home: {folder} cannot be written by user {user}:"), last
    assert f"chown -R {user}:" in last


def redis_on(port: int, settings: Settings) -> Settings:
    return settings.updated(store={"kind": "redis", "redis_url": f"redis://127.0.0.1:{port}/0"})


def test_a_missing_or_wrong_password_names_the_secret(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey(tmp_path, "--requirepass", "1234") as port:
        asking = redis_on(port, settings)
        with pytest.raises(FeatureStoreError, match=r"redis_password is missing.*cluster\.store_secret"):
            check_surroundings(asking, waits_s=())
        monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "4321")
        with pytest.raises(FeatureStoreError, match=r"redis_password is wrong"):
            check_surroundings(asking, waits_s=())
        monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "1234")
        assert check_surroundings(asking, waits_s=()) == source_identity(settings.source)


def test_a_wrong_store_name_is_refused_after_the_last_try(settings: Settings) -> None:
    away = settings.updated(store={"kind": "redis", "redis_url": "redis://campaign-stor.invalid:6379/0"})
    with pytest.raises(StoreAway, match=r"campaign-stor\.invalid:6379: no answer.*store\.redis_url.*tried 2 times"):
        check_surroundings(away, waits_s=(0.01,))


def test_a_store_that_comes_back_is_waited_for_and_the_log_says_so(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:

        def sleep(seconds: float) -> None:
            if seconds == 1.0:  # after the second try
                stack.enter_context(valkey(tmp_path, port=port))

        monkeypatch.setattr(step, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        with running("check_settings"):
            check_surroundings(redis_on(port, settings), waits_s=(0.5, 1.0, 2.0, 4.0, 8.0))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    tries = [line for line in lines if line["event"] == "away for now, trying again"]
    assert [(line["tried"], line["wait_s"]) for line in tries[:2]] == [(1, 0.5), (2, 1.0)]
    assert f"127.0.0.1:{port}" in tries[0]["problem"]
    assert (lines[0]["event"], lines[-1]["event"]) == ("step reads", "step wrote")


def test_a_refusal_is_tried_once() -> None:
    tried = []

    def refuse() -> None:
        tried.append(1)
        raise FeatureStoreError("no")

    with pytest.raises(FeatureStoreError, match=r"^no$"):
        patiently(refuse, waits_s=(0.01, 0.01))
    assert len(tried) == 1


def test_an_empty_secret_is_refused(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis_password").write_text("\n")
    monkeypatch.setenv("RECOMMENDER_SECRETS", str(tmp_path))
    with pytest.raises(SettingsError, match=rf"{tmp_path}/redis_password: the secret is empty"):
        check_surroundings(settings)


def test_a_missing_judgement_file_and_an_unknown_feature_store_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        check_surroundings(settings.updated(judgement=Path("absent.toml")))
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", "production")
    with pytest.raises(SettingsError, match=r"ENVIRONMENT=production: no such environment.*local, staging"):
        check_surroundings(settings)


def test_a_damaged_registry_is_refused(settings: Settings) -> None:
    check_registry(settings)
    registry = Registry(settings.home)
    registry.folder.mkdir(parents=True)
    for name in ("state.json", "journal.jsonl"):
        (registry.folder / name).write_text("{ half")
    with pytest.raises(RegistryError, match=r"registry"):
        check_registry(settings)


def test_a_refused_step_ends_with_one_sentence_and_exit_code_1(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    given = defaults(settings) | {"challenger": "transfomer"}
    with pytest.raises(SystemExit) as ended:
        check_settings.python_func(base=base_settings(settings), places={}, **given)
    assert ended.value.code == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1] == "SettingsError: challenger: unknown ranker 'transfomer'; did you mean 'transformer'?"
    assert "Traceback" not in "".join(shown)
    assert json.loads(shown[0])["event"] == "step reads"
    assert json.loads(shown[0])["challenger"] == "transfomer"


def test_details_stand_above_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), running("validate_data"):
        raise ValidationFailed("2 expectations failed; the page is x.html\n  events.amount: below zero\n  row 17")
    shown = capsys.readouterr().err.splitlines()
    assert shown[-4:] == [
        DETAILS,
        "  events.amount: below zero",
        "  row 17",
        "ValidationFailed: 2 expectations failed; the page is x.html",
    ]


def test_a_full_or_read_only_volume_is_a_refusal_and_any_other_error_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit), running("materialise"):
        raise OSError(28, "No space left on device", "/var/recommender/x")
    assert "/var/recommender/x: No space left on device" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(ZeroDivisionError), running("materialise"):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), running("materialise"):
        (tmp_path / "absent").read_text()


def test_a_log_ends_with_what_was_written_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with running("ingest", reads={"source": "x"}, writes={"tables": tmp_path}) as wrote:
        (tmp_path / "a").write_text("12345")
        wrote["rows"] = 7
    first, last = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["source"]) == ("step reads", "x")
    assert last["event"] == "step wrote"
    assert last["tables"] == {"path": str(tmp_path), "files": 1, "bytes": 5}
    assert (last["rows"], last["process"]) == (7, "step:ingest")
    assert 0 <= last["seconds"] < 60
    assert last["peak_memory_mib"] > 10
