"""Identity, folders and records: what names a run, and what a reader may find."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ablations.recipe import load_preset
from ablations.records import (
    PROGRAM,
    Record,
    ResultsError,
    Run,
    RunFolder,
    RunOwnershipError,
    Status,
    Study,
    commit_of,
    provenance,
    study_names,
)
from ablations.studies.selection import roadmap
from modernize import spec_of
from modernize.errors import UsageError
from modernize.steps import STEPS

IMAGES = {"name": "fashion-mnist", "train_images": 10, "val_images": 5, "sha256": "0"}
ORDER = [step.key for step in STEPS]


def make_run(**changes: object) -> Run:
    recipe = load_preset("nano").recipes.enhanced
    run = Run("ln", spec_of("ln", "nano"), recipe, IMAGES, seed=0)
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


def join(folder: Path, last: str = "patchify", seeds: int = 1, *settings: str) -> Study:
    preset = load_preset("nano", settings)
    variants = roadmap("nano", last=last)
    return Study.merge(
        folder,
        preset=preset,
        regime="nano",
        images=IMAGES,
        variants=variants,
        seeds=seeds,
        order=ORDER,
    )


def test_content_alone_names_a_run() -> None:
    run = make_run()
    assert run.name == make_run().name
    assert run.name.startswith("ln-seed0-")
    others = [
        make_run(seed=1),
        make_run(spec=spec_of("gelu", "nano")),
        make_run(recipe=load_preset("nano", ["epochs=7"]).recipes.enhanced),
        make_run(images={**IMAGES, "sha256": "1"}),
    ]
    digests = {r.name.rpartition("-")[2] for r in [run, *others]}
    assert len(digests) == 5
    # The key is for people: it names the folder, not the content.
    assert make_run(key="mine").name.rpartition("-")[2] == run.name.rpartition("-")[2]


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.read_record() is None
    folder.prepare(make_run())
    record = Record(
        Status.FINISHED,
        metrics={"top1": 81.5, "top5": 99.0},
        epochs=3,
        provenance={"device": "cpu"},
    )
    folder.write_record(record)
    assert folder.read_record() == record
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["spec"] == spec_of("ln", "nano").to_dict()
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("status", Status)
def test_what_is_settled_is_settled(tmp_path: Path, status: Status) -> None:
    """No attempt, failure or takeover removes the end of a run that has come to it."""
    folder, record = RunFolder(tmp_path), Record(status, "why", epochs=3)
    folder.write_record(record)
    before = (tmp_path / "record.json").read_bytes()
    for attempt in (folder, RunFolder(tmp_path)):
        assert attempt.prepare(make_run()) == (record if record.settled else None)
    if record.settled:
        assert list(tmp_path.iterdir()) == [tmp_path / "record.json"]
        folder.write_record(Record(Status.FAILED, "later"))
        assert (tmp_path / "record.json").read_bytes() == before
    else:  # a new attempt forgets it
        assert folder.read_record() is None


def test_a_damaged_record_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for text in ("{", '{"status": "odd"}'):
        (tmp_path / "record.json").write_text(text)
        assert folder.prepare(make_run()) is None
        assert folder.read_record() is None
    (tmp_path / "record.json").write_bytes(b"\0" * 9)
    folder.write_record(Record(Status.FAILED, "no memory"))
    kept = [(tmp_path / f"record.json.damaged{n}").read_bytes() for n in ("", "-2", "-3")]
    assert kept == [b"{", b'{"status": "odd"}', b"\0" * 9]


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.prepare(make_run())
    shutil.rmtree(folder.path)
    with pytest.raises(ResultsError, match=r"run is gone") as error:
        folder.write_record(Record(Status.FINISHED))
    assert not isinstance(error.value, RunOwnershipError)  # after which a job says no more


def test_a_record_that_cannot_be_read_is_neither_forgotten_nor_replaced(tmp_path: Path) -> None:
    """A disk that fails may work again: the run may have come to its end."""
    folder = RunFolder(tmp_path)
    (tmp_path / "record.json").mkdir()  # as root, nothing else is unreadable
    for act in (folder.prepare, lambda _: folder.write_record(Record(Status.FAILED))):
        with pytest.raises(ResultsError, match=r"record\.json cannot be read"):
            act(make_run())
    assert (tmp_path / "record.json").is_dir()


@pytest.mark.parametrize(
    "text",
    ['{"status": "finis', "[]", "{}", '{"status": "odd"}', '{"status": "running"}',
     '{"status": "failed", "x": 1}'],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ResultsError, match=r"record\.json.*delete it"):
        RunFolder(tmp_path).read_record()


def test_only_a_failed_run_is_tried_again() -> None:
    assert {s for s in Status if s.ended and not s.settled} == {Status.FAILED}


def test_metrics_and_progress(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    assert folder.read_progress() is None
    rows = [{"epoch": 1, "top1": 10.0}, {"epoch": 2, "top1": 20.0}]
    folder.write_metrics(rows)
    folder.write_progress(fraction=0.5)
    assert folder.read_metrics() == rows
    assert folder.read_progress()["fraction"] == 0.5  # type: ignore[index]


def test_a_study_widens(tmp_path: Path) -> None:
    join(tmp_path / "s", "patchify", 2).write()
    wider = join(tmp_path / "s", "depthwise")
    assert [v.key for v in wider.variants] == [
        "resnet", "recipe", "stage-ratio", "patchify", "depthwise",
    ]  # fmt: skip
    assert wider.seeds == 2
    wider.write()
    opened = Study.open(tmp_path / "s")
    assert opened.variants == wider.variants
    assert opened.preset == load_preset("nano")
    assert len(list(opened.runs())) == 10
    assert len({folder.path for *_, folder in opened.runs()}) == 10
    assert study_names(tmp_path) == ["s"]


def test_what_a_step_is_called_may_change(tmp_path: Path) -> None:
    before = join(tmp_path, "patchify", 2)
    for variant in before.manifest["variants"]:
        variant["title"] = f"the {variant['title']}"
        variant["section"] = "Elsewhere"
    before.write()
    after = join(tmp_path, "recipe")
    assert [v.section for v in after.variants] == [
        "Baseline",
        "Training techniques",
        *["Elsewhere"] * 2,
    ]
    names = {run.name for _, run, _ in before.runs()}
    assert {run.name for _, run, _ in after.runs()} == names
    before.manifest["variants"][0]["spec"]["width"] = 7
    before.write()
    with pytest.raises(UsageError, match=r"step resnet.spec.width: 7 there, 16 here"):
        join(tmp_path, "recipe")


def test_a_piece_of_the_road_joins_in_the_roads_order(tmp_path: Path) -> None:
    join(tmp_path, "recipe").write()
    only = Study.merge(
        tmp_path,
        preset=load_preset("nano"),
        regime="nano",
        images=IMAGES,
        variants=roadmap("nano", only=["ln", "patchify"]),
        seeds=1,
        order=ORDER,
    )
    assert [v.key for v in only.variants] == ["resnet", "recipe", "patchify", "ln"]


def test_another_preset_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    join(tmp_path / "s").write()
    with pytest.raises(UsageError) as caught:
        join(tmp_path / "s", "patchify", 1, "epochs=3", "enhanced.warmup_epochs=2")
    message = str(caught.value)
    assert "preset.recipes.classic.epochs: 5 there, 3 here" in message
    assert "preset.recipes.enhanced.warmup_epochs: 1.0 there, 2.0 here" in message
    assert "--name" in message


def test_a_missing_study_lists_those_there_are(tmp_path: Path) -> None:
    join(tmp_path / "one").write()
    with pytest.raises(UsageError, match=r"no study 'two'.*one"):
        Study.open(tmp_path / "two")


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResultsError, match=r"cannot write .*file.*--results"):
        join(blocked / "s").write()


def test_provenance_says_what_made_a_number() -> None:
    said = provenance("cpu", 2)
    assert said["packages"]["torch"].startswith("2.")
    assert {"device", "threads", "python", "platform", "commit", "dirty"} <= set(said)


def test_a_study_of_another_version_is_said_so(tmp_path: Path) -> None:
    study = join(tmp_path / "s")
    del study.manifest["preset"]["recipes"]["classic"]["mixup"]
    study.write()
    with pytest.raises(ResultsError, match=r"another version.*recipes\.classic\.mixup"):
        _ = Study.open(tmp_path / "s").preset


@pytest.mark.integration
def test_only_changes_of_the_program_are_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    for path in ("modernize/steps.py", "ablations/cli.py", "results/s/report.md"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("as committed")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    known = commit_of(tmp_path, *PROGRAM)
    assert len(known["commit"]) == 40
    assert known["dirty"] is False
    (tmp_path / "results/s/report.md").write_text("written again")
    (tmp_path / "mine.yaml").write_text("a custom study")
    assert commit_of(tmp_path, *PROGRAM) == known
    assert commit_of(tmp_path) == {**known, "dirty": True}
    (tmp_path / "ablations/mine.py").write_text("")
    assert commit_of(tmp_path, *PROGRAM) == {**known, "dirty": True}
    installed = tmp_path / "site-packages"  # in a repository of something else
    (installed / "ablations").mkdir(parents=True)
    (installed / "ablations/cli.py").write_text("")
    assert commit_of(installed, *PROGRAM) == {"commit": None, "dirty": None}
