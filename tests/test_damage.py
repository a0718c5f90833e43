"""Damaged files in a study's folder: each costs its own information, and nothing fails for it."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reporting import finished

from ablations.analysis.outcomes import read_outcomes
from ablations.cli import cli
from ablations.commands.launch import design
from ablations.records import ARCHIVE, Record, Status, Study
from ablations.records.status import read_statuses
from ablations.records.submissions import Submission
from ablations.report.data import read_data
from ablations.report.provenance import provenance_rows
from ablations.report.reproduction import reproduction
from modernize.errors import RoadmapError

FILES = documents.files(documents.ROOT / "docs" / "studies.md")
NAME = "star"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """A results folder with a study with every kind of file; and how to launch it."""
    root = tmp_path_factory.mktemp("damage")
    for name, text in FILES.items():
        (root / name).write_text(text)
    launch = {"study": str(root / "star.yaml"), "data": str(few_images), "settings": ("epochs=3",)}
    others = {"only": "", **dict.fromkeys(("first", "last", "preset", "regime"))}
    study = design(
        name=NAME, results=root / "results", seeds=3, skip_bad_images=False, loggers=(),
        **others, **launch,
    ).study  # fmt: skip
    study.write()
    ends: list[Record | None] = [
        finished(80.0), finished(81.0), finished(82.0),
        finished(83.0), Record(Status.FAILED, "no memory"), None,
    ]  # fmt: skip
    runs = list(study.runs())
    for (_, run, folder), end in zip(runs, ends, strict=True):
        folder.prepare(run)
        folder.log.write_text("epoch 1 of 3\nepoch 2 of 3\n")
        folder.write_metrics({"epoch": n, "train_loss": 1.0, "top1": 50.0 + n} for n in (1, 2))
        folder.write_speed([{"epoch": 1, "images_per_second": 9.0}])
        folder.write_progress(epoch=1, epochs=3, fraction=0.5, seconds=30.0)
        if end is None:
            (folder.path / "checkpoint-000000001.pt").write_bytes(b"x")
        else:
            folder.write_record(end)
        folder.release()
    Submission(f"{NAME}-1", [run.name for _, run, _ in runs], "7", "", None, None, 1e9).write(
        study.folder
    )
    study.archive()
    shutil.rmtree(runs[2][2].path)
    (root / "launch.json").write_text(json.dumps(launch))
    return root


def commands(root: Path) -> dict[str, list[str]]:
    launch = json.loads((root / "launch.json").read_text())
    results = ["--results", str(root / "results")]
    there = [NAME, *results]
    return {
        "status": ["status", *there],
        "logs": ["logs", *there, "--step", "star-relu", "--seed", "1"],
        "compare": ["compare", *there],
        "collect": ["collect", *there, "--format", "csv"],
        "cancel": ["cancel", *there],
        "launch": [
            *("--study", launch["study"], "--data", launch["data"], "--seeds", "3", "--dry-run"),
            *("--set", launch["settings"][0], "--name", NAME, *results),
        ],
    }  # fmt: skip


def call(arguments: list[str]) -> tuple[str, BaseException | None]:
    """What a command says, and our own error that it ends in; any other error is raised."""
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, RoadmapError):
        raise result.exception
    return result.output, result.exception


def copied(sound: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(sound, root, symlinks=True)
        yield root


@pytest.fixture
def root(sound: Path) -> Iterator[Path]:
    yield from copied(sound)


def files(root: Path) -> list[Path]:
    study = root / "results" / NAME
    return sorted(p for p in study.rglob("*") if p.is_file() and p.suffix != ".pt")


ODD = [
    None, True, "text", "", "1e400", -1, 0, 1e308, float("nan"), float("inf"), 10**400, [], {},
    [None], {"a": {}}, "../../x", "\x1b[31m", "\udcff",
]  # fmt: skip
CONTENTS = [
    b"", b"\n\n", bytes(512), b"null", b"[]", b"{}", b"7", b'"text"', b"NaN", b"[" * 100_000,
    b'{"a":' * 100_000, b"9" * 5000, b'{"epoch": ' + b"9" * 5000 + b"}", b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}", b'{"status": "finished", "status": "failed"}', b"- a: [\n", b"&a [*a, *a]",
]  # fmt: skip
TAILS = [b'{"event": "st', bytes(64), b"\n", b"{}\n", b"[]\n", b"\xff", b'{"epoch": "one"}\n']


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in plain data."""
    inner = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def altered(content: bytes, where: int, odd: Any) -> bytes:
    """JSON, or its last line, with one value replaced, or left out for Ellipsis."""
    lines = content.decode().splitlines()
    whole = content.startswith(b"{\n")
    values = json.loads(content if whole else lines[-1])
    known = list(places(values))
    *path, last = known[where % len(known)]
    inner = values
    for key in path:
        inner = inner[key]
    if odd is ...:
        del inner[last]
    else:
        inner[last] = odd
    text = json.dumps(values)
    return (text if whole else "\n".join([*lines[:-1], text])).encode()


Damage = Callable[[Path], None]


def rewrite(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def other_kind(make: Callable[[Path], Any]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def flipped(content: bytes, where: int, bit: int) -> bytes:
    changed = bytearray(content or b"x")
    changed[where % len(changed)] ^= 1 << bit
    return bytes(changed)


place = st.integers(0, 10**6)
bit = st.integers(0, 7)


def damages(*, values: bool) -> st.SearchStrategy[Damage]:
    """Ways to damage a file; of one with values in JSON, any value too."""
    odd = st.sampled_from([..., *ODD])
    kinds: list[Damage] = [
        Path.unlink,
        other_kind(Path.mkdir),
        other_kind(os.mkfifo),
        other_kind(lambda path: path.symlink_to("nowhere")),
        other_kind(lambda path: path.symlink_to(path.name)),
    ]
    ways: list[st.SearchStrategy[Damage]] = [
        st.sampled_from(kinds),
        st.builds(lambda n: rewrite(lambda old: old[: n % (len(old) + 1)]), place),
        st.builds(lambda n, b: rewrite(lambda old: flipped(old, n, b)), place, bit),
        st.builds(lambda tail: rewrite(lambda old: old + tail), st.sampled_from(TAILS)),
        st.builds(lambda new: rewrite(lambda _: new), st.sampled_from(CONTENTS)),
    ]
    if values:
        ways.append(st.builds(lambda n, v: rewrite(lambda old: altered(old, n, v)), place, odd))
    return st.one_of(ways)


def look(root: Path, *names: str) -> None:
    """Asks a study all that can be asked without drawing."""
    asked = commands(root)
    for name in names or asked:
        call(asked[name])
    try:
        study = Study.open(root / "results" / NAME)
        data = read_data(study)
        if data is not None:
            provenance_rows(data.records)
        if not names:
            reproduction(study)
    except RoadmapError:
        pass


def ends(root: Path) -> dict[tuple[str, int], str]:
    found = read_outcomes(Study.open(root / "results" / NAME))
    return {(key, seed): state for key, e in found.items() for seed, state in e.statuses.items()}


def check_damage(sound: Path, path: Path, damage: Damage, *names: str) -> None:
    """Damages one file; all commands end well, and no other run changes."""
    before = ends(sound)
    for root in copied(sound):
        damage(root / path)
        look(root, *names)
        if path.name == "study.json":
            return
        own = {
            (run.key, run.seed)
            for _, run, folder in Study.open(sound / "results" / NAME).runs()
            if folder.path.name in path.parts or (path.name == ARCHIVE and folder.only_archived)
        }
        assert {r: s for r, s in ends(root).items() if r not in own} == {
            r: s for r, s in before.items() if r not in own
        }


@pytest.mark.integration
@settings(
    max_examples=20, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
def test_damage_costs_no_more_than_the_file(sound: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(sound)))
    json_file = path.suffix in (".json", ".jsonl")
    damage = data.draw(damages(values=json_file))
    command = data.draw(st.sampled_from(["collect", "compare", "logs", "cancel", "launch"]))
    names = [] if path.suffix in (".yaml", ".py") else ["status", command]
    check_damage(sound, path.relative_to(sound), damage, *names)


# -- one file at a time --------------------------------------------------------------------------


def run_folder(root: Path, key: str, seed: int) -> Path:
    study = Study.open(root / "results" / NAME)
    return next(f.path for _, r, f in study.runs() if (r.key, r.seed) == (key, seed))


FAULTS = {
    "torn history": ("history.jsonl", b'{"event": "started", "ti'),
    "empty history": ("history.jsonl", b""),
    "foreign history": ("history.jsonl", b'{"time": 1}\n7\n'),
    "torn metrics": ("metrics.jsonl", b'{"epoch": 1, "top1": 5'),
    "NUL metrics": ("metrics.jsonl", bytes(4096)),
    "text in metrics": ("metrics.jsonl", b'{"epoch": 1, "top1": "85"}\n'),
    "text in progress": ("progress.json", b'{"epoch": 1, "updated": "now"}'),
    "no number in progress": ("progress.json", b'{"epoch": 1, "updated": NaN}'),
    "owner": ("owner.json", b"{"),
}


@pytest.mark.parametrize(("name", "content"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_damaged_file_is_passed_over_and_named(
    root: Path, seed: int, name: str, content: bytes
) -> None:
    before = ends(root)
    path = run_folder(root, "star-relu", seed) / name
    path.write_bytes(content)
    look(root, "status", "launch")
    assert ends(root) == before
    study = Study.open(root / "results" / NAME)
    read_statuses(study)
    read_data(study)
    if content and name == ("metrics.jsonl" if seed == 1 else "history.jsonl"):
        assert str(path) in study.faults[path]
    if content and name == "history.jsonl":
        assert f"Note: {path}" in call(commands(root)["status"])[0]


FINISHED = b'{"status": "finished", "%s": %s}'
RECORDS = [
    *(b"", b"{", bytes(99), b"[]", b"[" * 10**5, b'{"status": "odd"}'),
    *(b'{"status": "failed", "x": 1}', b'{"status": "failed", "status": "finished"}'),
    *(FINISHED % (b"top1", v) for v in (b'"85"', b"1e400", b"NaN", b"-1", b"true")),
    *(FINISHED % (b"epochs", v) for v in (b"9" * 5000, b'"3"', b"1.5", b"null")),
    *(FINISHED % (b"provenance", v) for v in (b"[]", b'{"started": "x"}')),
]


@pytest.mark.parametrize("content", RECORDS, ids=lambda content: repr(content[:60]))
def test_a_damaged_record_costs_its_run(root: Path, content: bytes) -> None:
    path = run_folder(root, "star-relu", 0) / "record.json"
    before = ends(root)
    path.write_bytes(content)
    assert ends(root) == {**before, ("star-relu", 0): "unreadable"}
    said = commands(root)
    assert f"Note: {path}" in call(said["collect"])[0]
    assert "unreadable" in call(said["status"])[0]


def test_a_line_that_follows_a_torn_one_is_whole(root: Path) -> None:
    study = Study.open(root / "results" / NAME)
    folder = next(folder for _, _, folder in study.runs())
    path = folder.path / "history.jsonl"
    whole = len(folder.read_history())
    for torn in (b'{"event": "st', b"\0\0\0", b""):
        path.write_bytes(path.read_bytes() + torn)
        folder.add_event("cancelled")
        whole += 1
        assert len(folder.read_history()) == whole
        assert folder.read_history()[-1]["event"] == "cancelled"


def test_what_is_in_submissions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "results" / NAME / "submissions"
    [known] = folder.glob("*.json")
    values = json.loads(known.read_text())
    known.write_text(json.dumps({**values, "more": 1}))  # of a newer version
    (folder / "notes.json").write_text("[]")
    (folder / "folder.json").mkdir()
    study = Study.open(root / "results" / NAME)
    unfinished = [s.status for s in read_statuses(study) if not s.status.settled]
    assert unfinished == [Status.FAILED, Status.UNKNOWN]
    assert {path.name for path in study.faults} == {"notes.json", "folder.json"}
    # A job may be any of the unfinished runs, if only its submission's name is left.
    known.write_bytes(b"{")
    monkeypatch.setattr(
        "ablations.records.squeue._squeue",
        lambda which: [f"{NAME}-1|9|1|PENDING|Priority"] if f"{NAME}-1" in which else [],
    )
    states = [s for s in read_statuses(study) if not s.status.settled]
    assert [s.status for s in states] == [Status.FAILED, Status.UNKNOWN]
    assert "9_1" in states[-1].detail


def test_a_study_of_another_version_is_one_message_and_no_other_studys(root: Path) -> None:
    results = root / "results"
    shutil.copytree(results / NAME, results / "other")
    path = results / "other" / "study.json"
    values = json.loads(path.read_text())
    contents: list[Any] = ["{", "[]", *({**values, key: None} for key in values)]
    contents += [{k: v for k, v in values.items() if k != key} for key in ("variants", "preset")]
    contents += [{**values, "seeds": 10**12}, {**values, "variants": values["variants"] * 2}]
    for content in contents:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(path, (4e9, 4e9))  # it is the last one that was launched
        output, error = call(["status", "other", "--results", str(results)])
        assert f"{path} is damaged" in str(error)
        output, error = call(["status", "--results", str(results)])
        assert error is None
        assert f"{NAME}:" in output
        assert f"Note: {path}" in output


@pytest.mark.integration
@pytest.mark.parametrize("how", ["gone", "a file", "all damaged", "all empty"])
def test_a_study_without_a_single_readable_run(root: Path, how: str) -> None:
    study = root / "results" / NAME
    (study / ARCHIVE).unlink()
    if how in ("gone", "a file"):
        shutil.rmtree(study / "runs")
        if how == "a file":
            (study / "runs").write_text("x")
    for path in [p for p in (study / "runs").rglob("*") if p.is_file()]:
        path.write_bytes(b"" if how == "all empty" else b"\xff{")
    look(root)
    there = [NAME, "--results", str(root / "results")]
    for words in (["report", *there], ["collect", *there], ["plot", *there]):
        call(words)
