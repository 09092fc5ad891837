"""The command line explains itself, and an error raised on purpose is words on stderr and exit code 2."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app
from cli.options import settings_of
from recommender.errors import SettingsError
from recommender.models.campaign import RANKERS, ranker_class
from recommender.models.next_item import ITEM_RANKERS

VERBS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
BENCHMARK = ("benchmark", "sequences", "--interactions", "events.csv", "--output", "out.json")
NEXT_ITEMS = ("next-items", "ask", "--interactions", "events.csv", "--bundle", "kept")
FIT = ("next-items", "fit", "--interactions", "events.csv", "--save", "kept")
TUNE = ("next-items", "tune", "--interactions", "events.csv", "--study", "s.db")


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_there_is_a_verb_for_all_that_the_platform_does() -> None:
    needed = {"run", "serve", "stop", "recommend", "score", "audience", "status", "promote", "rollback", "report"}
    assert needed | {"compile", "submit", "draft-mapping", "tune", "rankers"} <= set(VERBS)


def test_without_a_verb_the_command_says_what_there_is_and_where_to_start() -> None:
    _, shown, _ = invoke()
    assert "Start with recommender run" in shown
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize(
    "verb", [(verb,) for verb in VERBS] + [("next-items", verb) for verb in ("fit", "ask", "tune")]
)
def test_every_verb_and_every_option_is_explained(verb: tuple[str, ...]) -> None:
    code, shown, _ = invoke(*verb, "--help")
    assert code == 0
    command = get_command(app)
    for word in verb:
        command = command.commands[word]  # type: ignore[attr-defined]
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, f"{verb}: {parameter.name} is not explained"  # type: ignore[attr-defined]
    assert "Usage" in shown


def test_the_command_starts_without_loading_a_framework() -> None:
    frameworks = {"torch", "feast", "kfp", "great_expectations", "pandas"}
    code = f"import sys, cli.main; print(sorted({frameworks} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_rankers_lists_every_ranker_with_its_hyperparameters_and_their_meaning() -> None:
    code, shown, _ = invoke("rankers")
    assert code == 0
    for name in RANKERS:
        assert f"{name}: ranks" in shown
        for key in ranker_class(name).Config.user_fields():
            assert key in shown, f"{name}: {key}"
    code, one, _ = invoke("rankers", "logistic")
    assert code == 0
    assert "lightgbm" not in one
    row = next(line for line in one.splitlines() if "strength" in line)
    assert all(fact in row for fact in ("0.003", "above 0", "0.0001 … 0.1, log scale", "L2 penalty"))


def test_rankers_as_json_tells_kind_default_bounds_search_and_meaning() -> None:
    code, shown, _ = invoke("rankers", "--json")
    assert code == 0
    rankers = {ranker["name"]: ranker for ranker in json.loads(shown)}
    assert set(rankers) == set(RANKERS)
    assert {name for name, ranker in rankers.items() if ranker["kind"] == "both"} == set(ITEM_RANKERS)
    (strength,) = (one for one in rankers["logistic"]["campaign"] if one["name"] == "strength")
    assert (strength["default"], strength["allowed"]) == (0.003, {"exclusiveMinimum": 0, "type": "number"})
    assert strength["searched"] == {"low": 0.0001, "high": 0.1, "log": True}
    epochs = {
        use: next(one["default"] for one in rankers["sasrec"][use] if one["name"] == "epochs")
        for use in ("campaign", "next_item")
    }
    assert epochs["campaign"] == 1
    assert epochs["next_item"] > 1
    for ranker in rankers.values():
        assert ranker["meaning"]
        assert all(one["meaning"] for one in ranker["campaign"] + ranker["next_item"])


def test_one_ranker_is_listed_without_loading_torch() -> None:
    code = (
        "import sys; from cli.main import app\n"
        "try: app(['rankers', 'lightgbm'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rankers", "logistc"), "'logistic'"),
        (("run", "--settings", "nowhere.toml"), "nowhere.toml: no such settings file"),
        (("run", "--as-of", "yesterday"), "--as-of yesterday: neither a date"),
        (("run", "--data", "nowhere/mapping.toml"), "nowhere/mapping.toml"),
        (("recommend", "anyone", "--url", "http://127.0.0.1:9"), "Start the endpoint with: recommender serve"),
        (("score",), "recommender run"),
        (("rollback",), "earlier champion"),
        (("promote",), "recommender status"),
        (("report",), "no run has been evaluated yet"),
        ((*BENCHMARK, "--compiled"), "--export"),
        ((*BENCHMARK, "--study", "s.db"), "--study s.db"),
        ((*BENCHMARK, "--set", "width"), "--set width"),
        ((*NEXT_ITEMS, "--output", "x.json"), "x.json: neither Parquet nor CSV"),
        ((*FIT, "--compiled"), "--program"),
        ((*FIT, "--ranker", "rulez"), "'rulez'"),
        ((*TUNE, "--output", "best.yaml"), "best.yaml"),
    ],
)
def test_an_error_raised_on_purpose_is_a_message_and_exit_code_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = invoke(*arguments)
    assert code == 2
    assert words in said
    assert "Traceback" not in said


def test_a_settings_file_with_an_unknown_key_names_it(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[serving]\nprot = 1\n")
    with pytest.raises(SettingsError, match=r"serving\.prot"):
        settings_of(tmp_path / "wrong.toml")


def test_own_data_has_a_home_and_a_time_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recommender.toml").write_text("[time]\nas_of = 2017-12-31\n")
    chosen = settings_of(None, Path("shop.toml"))
    assert chosen.home.parent == Path("var/own")
    assert chosen.home.name.startswith("shop-")
    assert chosen.home != settings_of(None, Path("other/shop.toml")).home
    assert chosen.time.as_of is None
    assert (chosen.source.dataset, chosen.source.mapping) == ("files", "shop.toml")
    assert str(settings_of(None, None, "2017-06-01").time.as_of).startswith("2017-06-01")


@pytest.mark.parametrize(("number", "ends"), [(errno.ENOSPC, 2), (errno.EACCES, 2), (errno.ENOENT, 1)])
def test_what_the_system_refuses_is_a_message_that_names_the_file(
    number: int, ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "out.json")

    monkeypatch.setattr("recommender.training.next_items.Benchmark.run", refused)
    result = CliRunner().invoke(app, list(BENCHMARK))
    assert result.exit_code == ends
    assert ("out.json" in result.stderr) == (ends == 2)
