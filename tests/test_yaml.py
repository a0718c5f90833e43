"""YAML as people write it, and as nobody should: core schema, bounds, faults with their lines."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablations import yaml_core, yaml_file
from ablations.launching.slurm_config import load_slurm_config
from ablations.recipe import PRESETS, load_preset
from ablations.studies.study_file import read_study_file
from modernize.errors import UsageError

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS), inner),
    max_leaves=8,
)


def lines_of(error: pytest.ExceptionInfo[yaml_core.YamlError]) -> list[int]:
    return [line for line, _ in error.value.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:00:00", "12:00:00"), ("16:00", "16:00"), ("1:30", "1:30"), ("010", 10), ("0o10", 8),
        ("0x1F", 31), ("0b11", "0b11"), ("1_000", "1_000"), ("+12", 12), ("4e-3", 0.004),
        ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("-.inf", -math.inf), ("no", "no"), ("on", "on"),
        ("Yes", "Yes"), ("y", "y"), ("TRUE", True), ("false", False), ("~", None), ("", None),
        ("Null", None), ("nULL", "nULL"), ("2024-01-01", "2024-01-01"), ("=", "="),
        ("\u0661", "\u0661"), ("1.2.3", "1.2.3"), ("0x", "0x"), ("e5", "e5"), (".", "."),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    read = yaml_core.scalar(text)
    assert (type(read), read) == (type(value), value)
    if text not in ("", "="):
        assert yaml_core.parse(f"key: {text}").values == {"key": value}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON)
@example({"a": "\U0001f600", "<<": ["1e3", 1e3, "no", None]})
def test_json_is_yaml(value: object) -> None:
    assert yaml_core.parse(json.dumps(value)).values == value  # \\u.... beyond ASCII
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        assert yaml_core.parse(text).values == value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.text("[]{}:,-?&*!|>'\"%@` \n\tab1#<~\\x", max_size=40))
@example("\\UFFFFFFFF")
@example('"\\UFFFFFFFF"')
@example('"\\ud800"')
@example("a: 2024-99-99")
@example("a: !!timestamp x")
@example("%YAML 9.9\n---\na: b")
def test_any_text_is_read_or_refused(text: str) -> None:
    faults = []
    try:
        yaml_core.parse(text)
    except yaml_core.YamlError as error:
        faults = [line for line, _ in error.faults]
    assert all(1 <= line <= text.count("\n") + text.count("\r") + 1 for line in faults)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\na: 3\nb: 4", [3, 4]),
        ("a:\n  1: x\n  '1': y", [3]),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: *b", []),
        ("x: 1\na: &a\n  b: *a", [2]),
        ("a: &a\n  <<: *a", [2]),
        ("a: 1\nb: !!python/object:os.system x", [2]),
        ("a: 1\nb: !mine 3", [2]),
        ("a: b\n---\nc: d", [2]),
        ("a: b\n\tc: d", [2]),
        ("a: [1,\nb: 2", [2]),
        ("a: 1\n? [b]\n: c", [2]),
        ("a: 1\nb: " + "9" * 5000, [2]),
        ("a: 1\nb: 0x" + "f" * 5000, [2]),
        ('a: 1\nb: "\\ud800"', [2]),
        ("a: 1\nb: \x1b", [2]),
        ("a: 1\nb: \u2028", [2]),
        ("a: 1\nb: " + "[" * 10_000, [2]),
        ("a: 1\nb: *c", [2]),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_what_is_refused_is_named_with_its_line(text: str, lines: list[int]) -> None:
    if not lines:
        assert len(yaml_core.parse(text).values["c"]) == 2
        return
    with pytest.raises(yaml_core.YamlError) as caught:
        yaml_core.parse(text)
    assert lines_of(caught) == lines


def test_a_key_given_twice_is_a_fault_with_both_lines() -> None:
    with pytest.raises(yaml_core.YamlError, match=r"line 3: .*'a'.* line 1"):
        yaml_core.parse("a: 1\nb: 2\na: 1")


def test_aliases_do_not_grow_without_bounds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(yaml_core.YamlError):
        yaml_core.parse("\n".join(lines))
    deep = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000))]
    with pytest.raises(yaml_core.YamlError):
        yaml_core.parse("\n".join(deep))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a: 1\nb: \xff", "line 2"),
        ("a: 1".encode("utf-16"), "line 1"),
        (b"# " + b"x" * yaml_file.MAX_BYTES, f"{yaml_file.MAX_BYTES:,}"),
        (b"", "mapping"),
        (b"- a", "mapping"),
        (b"a: 1\na: 2", "line 2"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, raw: bytes, told: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(raw)
    for read in (lambda p: load_preset(str(p)), load_slurm_config, read_study_file):
        with pytest.raises(UsageError, match=rf"odd\.yaml.*{told}|(?s:odd\.yaml.*{told})"):
            read(path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe, folder, nothing = (tmp_path / f"{name}.yaml" for name in ("pipe", "folder", "nothing"))
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder, nothing, tmp_path / f"{'x' * 300}.yaml"):
        with pytest.raises(UsageError, match=path.name[:50]):
            load_preset(str(path))
        with pytest.raises(UsageError, match=path.name[:50]):
            load_slurm_config(path)
    with pytest.raises(UsageError, match=r"/dev/zero.*Not a regular file"):
        load_slurm_config(Path("/dev/zero"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "slurm.yaml"
    path.write_bytes(b"\xef\xbb\xbfpartition: gpu\r\nnodes: 2\r\n")
    assert (load_slurm_config(path).partition, load_slurm_config(path).nodes) == ("gpu", 2)


def test_times_and_words_in_a_site(tmp_path: Path) -> None:
    path = tmp_path / "slurm.yaml"
    path.write_text("options:\n  begin: 16:00\n  kill-on-invalid-dep: yes\n  exclusive: true\n")
    assert load_slurm_config(path).options == {
        "begin": "16:00", "kill-on-invalid-dep": "yes", "exclusive": True
    }  # fmt: skip
    path.write_text("nodes: 1\ntime_limit_minutes: 12:00:00\n")
    with pytest.raises(UsageError, match=r"slurm\.yaml, line 2: time_limit_minutes.*'12:00:00'"):
        load_slurm_config(path)


def test_numbers_and_words_in_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (PRESETS / "nano.yaml").read_text()
    path.write_text(text.replace("4.0e-3", "4e-3").replace("epochs: 5 ", "epochs: 05 "))
    assert load_preset(str(path)) == load_preset("nano")
    path.write_text(text.replace("tf32: false", "tf32: no").replace("title: ", "title: 5 #"))
    with pytest.raises(UsageError) as caught:
        load_preset(str(path))
    assert "true or false, not 'no'" in str(caught.value)
    assert "not 5: put it in quotes" in str(caught.value)
