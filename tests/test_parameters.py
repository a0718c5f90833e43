"""What is typed: paths, names, numbers and lists, each read by its own type."""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablations import limits, paths, yaml_core
from ablations.cli import main
from ablations.commands.parameters import ImageFolder
from ablations.data.datasets import load_dataset
from ablations.launching.experiment import study_name
from ablations.launching.slurm_config import load_slurm_config
from ablations.recipe import PRESETS, load_preset, preset_names
from ablations.records import Study
from modernize.errors import UsageError

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: its exit status is checked, and its output returned."""

    def run(*arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = "".join(capsys.readouterr())
        assert ended.value.code == status, told
        return told

    return run


FOLDER = load_preset("imagenet-100", source="x").data
NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(NAMES | st.binary(min_size=1, max_size=20).map(os.fsdecode))
@example("images #2")
@example("20240101")
@example("1e3")
@example("[x]")
@example("@x")
@example("no")
@example(" - ~ ")
@example("~")
@example("~root")
@example("$HOME")
@example("${UNSET}")
@example("a,b=c: d")
@example("--data")
@example("\udcff")
@example("embedded")
def test_any_folder_that_is_there_is_the_one_that_is_read(name: str) -> None:
    raw = os.fsencode(name.encode("utf-8", "replace").decode() if not _encodes(name) else name)
    name = os.fsdecode(raw)
    if name in (".", "..") or "/" in name or "\0" in name or len(raw) > 255:
        return
    there = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path(name).mkdir()
            Path(name, "train").mkdir()
            given_ = name if name not in ("embedded", "on-disk", "download") else f"./{name}"
            assert ImageFolder().convert(given_, None, None) == given_
            data = FOLDER.model_copy(update={"source": given_})
            with pytest.raises(UsageError, match="train"):
                load_dataset(data)  # it has seen that the one part has no images
        finally:
            os.chdir(there)


def _encodes(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def test_homes_and_variables_are_replaced_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, few_images: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINE", str(tmp_path / "mine"))
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.setenv("EMPTY", "")
    assert paths.expand("~/a") == f"{tmp_path}/a"
    assert paths.expand("~root/a").endswith("/a")
    assert paths.expand("$MINE/${MINE}") == f"{tmp_path}/mine/{tmp_path}/mine"
    assert paths.expand("US$/50 $ a") == "US$/50 $ a"
    for wrong in ("$UNSET/x", "${UNSET}", "$EMPTY/x", "~nobody-of-this-name/x", "", "a\0b"):
        with pytest.raises(UsageError):
            paths.expand(wrong)
    shutil.copytree(few_images, tmp_path / "mine")
    slurm_config, preset = tmp_path / "slurm.yaml", tmp_path / "own.yaml"
    slurm_config.write_text("results: ~/results\n")
    preset.write_text((PRESETS / "nano.yaml").read_text().replace("embedded", "$MINE"))
    assert load_slurm_config(slurm_config).results == f"{tmp_path}/results"
    asked = ["--until", "resnet", "--dry-run", "--results", "~/results"]
    for data in (["--data", "~/mine"], ["--data", "$MINE"], ["--preset", "~/own.yaml"],
                 ["--set", "data.source=$MINE"]):  # fmt: skip
        assert "2,000 training" in call(*asked, *data)
    assert "there is no study" not in call("--slurm-config", "${HOME}/slurm.yaml", *asked[:3])
    for option in ("--data", "--results", "--slurm-config", "--study", "--preset"):
        assert "UNSET" in call("--dry-run", option, "$UNSET/x.yaml", status=2)
        assert option in call("--dry-run", option, "", status=2)


def test_words_for_images_and_folders_of_such_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "10,000" in call("plan", "--only", "ln", "--data", "embedded")
    Path("embedded").mkdir()
    told = call("plan", "--only", "ln", "--data", "embedded", status=2)
    assert "./embedded" in told
    assert "in embedded" in call("plan", "--only", "ln", "--data", "./embedded", status=2)


@pytest.mark.slow
def test_a_folder_whose_name_is_not_utf8_goes_all_the_way(
    tmp_path: Path, call: Call, few_images: Path
) -> None:
    data = os.fsdecode(os.fsencode(tmp_path) + b"/im\xffges")
    shutil.copytree(few_images, data)
    results = ["--results", tmp_path / "results"]
    fast = ["--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=1000",
            "--set", "micro_batch_size=1000"]  # fmt: skip
    call(
        "--only",
        "resnet",
        "--executor",
        "debug",
        "--data",
        data,
        *results,
        "--name",
        "study",
        *fast,
    )
    assert Study.open(tmp_path / "results" / "study").preset.data.source == data
    assert re.search("1 (finished|collapsed)", call("status", "study", *results))
    call("report", "study", *results)


@pytest.mark.parametrize("value", ["no", "1e3", "[a]", "2024-01-01", "{a: 1}", "#5", " x ", "a=b"])
def test_text_is_set_as_it_is(value: str) -> None:
    preset = load_preset("nano", [f"title={value}", f"data.source={value}"])
    assert (preset.title, preset.data.source) == (value, value)


@pytest.mark.parametrize(
    ("setting", "epochs"),
    [("epochs=010", 10), ("epochs= 7 ", 7), ("epochs=0x10", 16), ("epochs=1:30", None),
     ("epochs=1_0", None), ("epochs=3 # three", None), ("epochs=3.0", None), ("epochs=", None),
     ("epochs=true", None), (f"epochs={'9' * 5000}", None), ("epochs=\udcff", None),
     ("epochs=[3]", None), ("epochs=100001", None), ("title=\udcff", None)],
)  # fmt: skip
def test_numbers_are_set_by_their_type(setting: str, epochs: int | None) -> None:
    if epochs is not None:
        settings_ = [setting, "warmup_epochs=0"]
        assert load_preset("nano", settings_).recipes.enhanced.epochs == epochs
        return
    with pytest.raises(UsageError) as caught:
        load_preset("nano", [setting])
    assert setting[:15] in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "given_", "place"),
    [
        ("nano", ["epochs=1"], "warmup_epochs is given in nano.yaml, line "),
        ("nano", ["enhanced.warmup_epochs=9.5"], "epochs is given in nano.yaml, line "),
        ("nano", ["batch_size=200"], "micro_batch_size is given in nano.yaml, line "),
        ("nano", ["batch_size=7"], "micro_batch_size is given in nano.yaml, line "),
        ("nano", ["micro_batch_size=100"], "batch_size is given in nano.yaml, line "),
        (
            "imagenet",
            ["enhanced.batch_size=100"],
            "micro_batch_size is given in imagenet.yaml, line ",
        ),
        ("nano", ["epochs=3", "warmup_epochs=3"], "is given in --set "),
    ],
)
def test_what_does_not_fit_names_both_places_and_a_cure(
    name: str, given_: list[str], place: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_preset(name, given_)
    told = str(caught.value)
    assert place in told
    cure = told.partition("; add --set ")[2].split()[0]
    assert load_preset(name, [*given_, cure])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "1000000000"], f"{limits.SEEDS}"),
        (["--seeds", "9" * 5000], "--seeds"),
        (["--seeds", "900"], f"{limits.RUNS:,}"),
        (["--jobs", "100000"], "--jobs"),
        (["--preset", "nano", "--preset", "imagenet"], "--preset"),
        (["plan", "--seeds", "1", "--seeds", "2"], "--seeds"),
        (["plan", "--only", ","], "--only"),
        (["plan", "--regime", ""], "--regime"),
        *(
            (["plan", "--images-per-second", x], x)
            for x in ("nan", "inf", "1e-300", "1e+300", "-1")
        ),
        (["flops", "--image-size", "9" * 20], f"{limits.PIXELS}"),
        (["flops", "--step", "ln", "--until", "ln"], "--until"),
        (["status", "--watch", "--every", "nan"], "--every"),
        (["status", "--every", "3"], "--watch"),
        (["benchmark", "--seconds", "nan"], "--seconds"),
        (["benchmark", "--rounds", "100000"], "--rounds"),
        (["evaluate", "--batch-size", "100000000"], "--batch-size"),
        (["status", "../reference-nano"], "reference-nano"),
        (["status", "results/reference-nano", "--results", "results"], "--results"),
        (["status", "."], "'.'"),
        (["plot", ".."], "'..'"),
        (["status", "--results", "README.md"], "README.md"),
        (["plan", "--data", "x", "--set", "data.source=y"], "--data"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_numbers_out_of_bounds_and_options_given_twice(
    arguments: list[str], told: str, call: Call
) -> None:
    assert told in call(*arguments, status=2)


def test_a_name_that_no_file_can_have_is_one_message(call: Call) -> None:
    name = "x" * 300
    assert f"{name}/train-images" in call("--dry-run", "--data", name, status=1)
    assert name in call("convert", name, status=1)


def test_lists_may_be_repeated(call: Call) -> None:
    told = call("plan", "--only", "ln", "--only", "gelu, width", "--format", "csv")
    assert [line.split(",")[0] for line in told.splitlines()[1:]] == ["width", "gelu", "ln"]


def test_debug_goes_before_and_after_a_command(call: Call) -> None:
    assert "Traceback" in call("--debug", "--until", "lm", status=2)
    assert "Traceback" in call("plan", "--until", "lm", "--debug", status=2)


@pytest.mark.parametrize(
    ("given_", "otherwise", "name"),
    [
        ("étude", "x", "étude"), ("e\u0301tude", "x", "étude"), ("研究.2", "x", "研究.2"),
        (None, "étude", "étude"), (None, "my study (2)", "my-study-2"), (None, "../a", "a"),
        (None, "a" * 300, "a" * 50), ("a" * 300, "x", None), ("Paper", "x", None),
        (None, "paper", None), (None, "#", None), ("..", "x", None), ("a/b", "x", None),
        ("", "x", None), ("a\n", "x", None), ("-a", "x", None), ("a\udcff", "x", None),
    ],
)  # fmt: skip
def test_names_of_studies(given_: str | None, otherwise: str, name: str | None) -> None:
    if name is not None:
        assert study_name(given_, otherwise) == name
        return
    with pytest.raises(UsageError, match="--name"):
        study_name(given_, otherwise)


# -- --set key=value -----------------------------------------------------------------------------


BY_SIZE = ("learning_rate", "layer_decay", "drop_path", "ema_decay")


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Key -> value of everything in a preset that --set can replace."""
    found = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        is_table = isinstance(value, dict) and name not in (*BY_SIZE, "start")
        found |= leaves(value, f"{key}.") if is_table else {key: value}
    return found


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


PRESET_VALUES = {name: leaves(load_preset(name).model_dump(mode="json")) for name in preset_names()}
KEYS = sorted(set().union(*PRESET_VALUES.values()) - {"start"})  # which has a short form
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@pytest.mark.integration
@pytest.mark.parametrize("name", preset_names())
def test_every_key_can_be_set_to_its_own_value(name: str) -> None:
    known = load_preset(name)
    for key, value in PRESET_VALUES[name].items():
        setting = f"{key}={as_text(value)}"
        if key == "data.interpolation" and known.head is not None:  # always bilinear
            with pytest.raises(UsageError, match=key):
                load_preset(name, [setting])
        else:
            assert load_preset(name, [setting]) == known, key


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(KEYS),
    PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN, max_size=2),
)
@example("data.workers", "auto")
@example("data.source", "null")
@example("recipes.enhanced.betas", [0.9, 0.99])
@example("recipes.enhanced.drop_path", {"nano": 0.5})
@example("recipes.enhanced.epochs", True)
@example("recipes.enhanced.drop_path", {"nana": 0.5, "": None})
@example("recipes.enhanced.drop_path", [0.5])
@example("title", 3)
def test_any_value_is_set_or_refused_with_its_key(key: str, value: Any) -> None:
    text, message = as_text(value), ""
    try:
        found = leaves(load_preset("nano", [f"{key}={text}"]).model_dump(mode="json"))[key]
    except UsageError as error:
        message = str(error)
    if message:
        assert key.rpartition(".")[2] in message
        assert "constrained" not in message  # one of pydantic's names
        assert len(message) < 1000
        return
    meanings = [value, text]
    if isinstance(value, str):  # of a key that is not text
        with contextlib.suppress(yaml_core.YamlError):
            meanings.append(yaml_core.parse(text).values)
    assert found in meanings
