"""Studies from the command line: planned, trained, come back to; with custom layers."""

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import documents
import pytest
from command_line import run_without_torch

from ablations.cli import main
from ablations.commands import study_request
from ablations.devices import Slot
from ablations.launching import experiment
from ablations.launching.experiment import Experiment
from ablations.launching.local_queue import run_queue
from ablations.recipe_parts import PARTS
from ablations.records import RunFolder, Status, Study
from ablations.report.reproduction import reproduction
from ablations.studies import study_file
from ablations.units import duration
from modernize import weights
from modernize.custom_layers import load_custom_layers
from modernize.errors import CustomLayersError, UsageError
from modernize.steps import find_regime

ROOT = Path(__file__).parent.parent
FILES = documents.files(ROOT / "docs" / "studies.md")
COMMANDS = [
    " ".join(words[2:])
    for block in documents.blocks(ROOT / "docs" / "studies.md", "sh")
    for words, _ in block.commands()
]
ONLY = (
    "narrow",
    "no-smoothing",
    "star-relu",
)  # what of each is trained here, the second of its variants
SHORT = ["epochs=1", "warmup_epochs=0", "batch_size=100", "micro_batch_size=100"]

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process and returns its output."""

    def run(*arguments: str | Path, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        assert caught.value.code == status, said.out + said.err
        return said.out + said.err

    return run


@pytest.fixture
def as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the documents, to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def read_top1(run: Path) -> float:
    top1: float = json.loads((run / "record.json").read_text())["top1"]
    return top1


def planned(study: Path, results: Path, images: Path, *settings: str) -> Experiment:
    asked = study_request.build_request(
        study=str(study), first=None, last=None, only="", seeds=1, preset=None, regime=None,
        data=str(images), settings=(*SHORT, *settings),
    )  # fmt: skip
    return experiment.design(
        results / asked.folder, asked.preset, asked.resolved, asked.variants, asked.seeds
    )


def test_the_document_shows_a_study_a_layer_and_how_to_run_them() -> None:
    assert list(FILES) == [
        "smaller.yaml", "longer-road.yaml", "other-road.yaml", "smoothing.yaml", "my-recipe.yaml",
        "my_layers.py", "star.yaml",
    ]  # fmt: skip
    assert [f"--study {name}.yaml" for name in ("smaller", "smoothing", "star")] == COMMANDS


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".yaml")])
def test_every_study_of_the_document_can_be_planned(
    name: str, as_written: Path, call: Call
) -> None:
    assert call("plan", "--study", as_written / name)


def test_the_documents_name_every_part_of_a_recipe() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [part.key for part in PARTS if f"`{part.key}`" not in text] == []


@pytest.mark.integration
@pytest.mark.parametrize(("command", "only"), list(zip(COMMANDS, ONLY, strict=True)))
def test_the_readmes_studies_as_written(
    command: str, only: str, as_written: Path, few_images: Path, call: Call
) -> None:
    words = [*command.split(), "--results", "results", "--data", few_images]
    told = call(*words, "--dry-run")
    assert "runs to do" in told
    assert not (as_written / "results").exists()

    words += [word for setting in SHORT for word in ("--set", setting)]
    told = call(*words, "--only", only, "--seeds", "1")
    assert "[1/1]" in told
    assert "FAILED" not in told
    name = Path(command.split()[1]).stem
    assert "finished" in call("collect", name, "--results", "results")
    for step in (only, "1"):
        assert "epoch 1 of 1" in call("logs", name, "--step", step, "--results", "results")
    chart = Path("results") / name / "roadmap.svg"
    assert chart.stat().st_size > 5_000


@pytest.mark.parametrize("file", ["smaller.yaml", "star.yaml"])
def test_its_report_says_how_such_a_study_is_made_again(
    file: str, as_written: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(as_written / file, tmp_path / "results", few_images)
    first.study.write()
    with monkeypatch.context() as patch:  # to say so, nothing of the study's is run
        patch.delattr(study_file, "load_custom_layers")
        found = reproduction(Study.open(first.study.folder))
    words = shlex.split(found.command.replace("\\\n", " "))
    assert words[words.index("--study") + 1] == file
    assert "--only" not in words
    needed = [file, "my_layers.py"] if file == "star.yaml" else [file]
    assert found.files == {name: FILES[name] for name in needed}

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, text in found.files.items():
        (elsewhere / name).write_text(text)
    again = planned(elsewhere / file, tmp_path / "anew", few_images)
    assert [p.run.name for p in again.planned] == [p.run.name for p in first.planned]

    # A file that makes other networks by now is not said to make these.
    changed = FILES["smaller.yaml"].replace("nano: 18", "nano: 20")
    (first.study.folder / "study.yaml").write_text(changed)
    if file == "smaller.yaml":
        assert reproduction(Study.open(first.study.folder)).command == ""


@pytest.mark.integration
def test_the_file_of_layers_is_part_of_the_run_and_its_copy_is_what_runs(
    as_written: Path, few_images: Path, tmp_path: Path, call: Call
) -> None:
    results, source = tmp_path / "results", as_written / "my_layers.py"
    before = planned(as_written / "star.yaml", results, few_images)
    base, own = before.planned
    before.study.write()
    waiting = before.jobs()
    source.write_text(source.read_text().replace("** 2", "** 3"))

    # The runs that wait know nothing of that, and what imports the copy is not this process.
    records = [r for tick in run_queue(tmp_path, waiting, [Slot("cpu", 1)]) for _, r in tick.ended]
    assert [r.status for r in records] == [Status.FINISHED] * 2

    edited = planned(as_written / "star.yaml", tmp_path / "other", few_images)
    assert edited.planned[0].run.name == base.run.name
    assert edited.planned[1].run.name != own.run.name
    with pytest.raises(UsageError, match=r"step star-relu.spec.activation: 'star-relu@\w+' there"):
        planned(as_written / "star.yaml", results, few_images)

    # Commands that read the study later run none of its code, and have its numbers.
    [copy] = (results / "star" / "layers").iterdir()
    copy.write_text("raise SystemExit('run')")
    study = Study.open(results / "star")
    assert study.cost_of(study.variants[1]) == (own.cost.params, own.cost.flops)
    assert own.cost.params == base.cost.params + 2 * 6  # scale and shift in each of 6 blocks
    assert "2 finished" in call("status", "star", "--results", results)
    assert "StarReLU" in call("collect", "star", "--results", results)

    # A copy that is not what was planned is not run.
    Path(own.folder.path / "record.json").unlink()
    records = [
        r for tick in run_queue(tmp_path, waiting[1:], [Slot("cpu", 1)]) for _, r in tick.ended
    ]
    assert records[0].status is Status.FAILED
    assert copy.stem in records[0].reason


@pytest.mark.integration
def test_weights_of_such_a_run_are_read_only_with_its_file(
    as_written: Path,
    few_images: Path,
    tmp_path: Path,
    call: Call,
    forget_custom_layers: Callable[[], None],
) -> None:
    asked = planned(as_written / "star.yaml", tmp_path / "results", few_images)
    asked.study.write()
    job = asked.jobs()[1]
    assert [r.status for t in run_queue(tmp_path, [job], [Slot("cpu", 1)]) for _, r in t.ended] == [
        "finished"
    ]
    file = job.folder / "weights.pt"
    forget_custom_layers()
    with pytest.raises(CustomLayersError, match=r"weights.pt: .*activation is star-relu"):
        weights.read(file)
    load_custom_layers(as_written / "my_layers.py")
    assert weights.load(file).spec == job.run.spec
    [copy] = (asked.study.folder / "layers").iterdir()
    for source in (file, job.folder):
        forget_custom_layers()
        told = call("convert", source, status=2)
        assert all(text in told for text in ("activation is star-relu", "--layers", str(copy)))
        assert "all tensors fit" in call("convert", source, "--layers", "my_layers.py")

    # A run is evaluated with layers that are named, and runs none otherwise.
    of_run = ("evaluate", asked.study.folder, "--step", "star-relu")
    given = ("--layers", "my_layers.py")
    assert f"its record: {read_top1(job.folder):.3f}" in call(*of_run, *given)
    told = call(*of_run, *given, "--ema", status=2)
    assert "ema_decay" in told
    content = copy.read_text()
    copy.write_text("raise SystemExit('run')")
    forget_custom_layers()
    told = call(*of_run, status=2)
    assert all(text in told for text in ("--layers", str(copy)))
    copy.write_text(content)


def test_a_failing_layer_is_found_before_anything_is_launched(
    as_written: Path, few_images: Path, call: Call
) -> None:
    source = as_written / "my_layers.py"
    source.write_text(source.read_text().replace("F.relu(x)", "F.relu(x)[:, :1].flatten()"))
    told = call("--study", "star.yaml", "--data", few_images, "--dry-run", status=2)
    assert "activation star-relu" in told


def test_two_studies_do_not_join(few_images: Path, tmp_path: Path, call: Call) -> None:
    first = planned(Path("kernel-size"), tmp_path, few_images)
    first.study.write()
    told = call("--study", "stage-ratio", "--name", "kernel-size", "--results", tmp_path,
                "--data", few_images, "--dry-run", status=2)  # fmt: skip
    assert "study: 'kernel-size' there, 'stage-ratio' here" in told
    assert "--name" in told


def test_an_edited_study_keeps_what_it_has_and_takes_what_is_new(
    few_images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    text = "title: T\nbase: {until: ln}\nvariants:\n- {key: a, fields: {kernel_size: 3}}\n"
    path.write_text(text)
    planned(path, tmp_path, few_images).study.write()
    path.write_text(text.replace("key: a", "key: b").replace("3}", "5}"))
    study = planned(path, tmp_path, few_images).study
    assert [v.key for v in study.variants] == ["base", "b", "a"]
    assert study.key_of("2") == "a"
    path.write_text(text.replace("3}", "9}"))
    with pytest.raises(UsageError, match=r"step a.spec.kernel_size: 3 there, 9 here"):
        planned(path, tmp_path, few_images)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "nano"),
        ({"preset": "cifar10", "regime": "resnet50"}, "cifar10-resnet50"),
        ({"study": "leave-one-out"}, "leave-one-out"),
        ({"study": "leave-one-out", "preset": "nano"}, "leave-one-out"),
        ({"study": "leave-one-out", "preset": "imagenet"}, "leave-one-out-imagenet"),
        ({"study": "order", "regime": "resnet200"}, "order-resnet200"),
    ],
)
def test_a_studys_folder_is_named_after_it_and_what_is_unusual(
    options: dict[str, str], folder: str
) -> None:
    given = dict.fromkeys(("first", "last", "seeds", "preset", "regime", "data"))
    asked = study_request.build_request(
        **{"study": "roadmap", "only": "", "settings": (), **given, **options}  # type: ignore[arg-type]
    )
    assert asked.folder == folder


def test_a_file_says_preset_regime_and_seeds_and_the_command_line_goes_before(
    as_written: Path, call: Call
) -> None:
    preset = (ROOT / "ablations" / "presets" / "nano.yaml").read_text()
    (as_written / "mine-preset.yaml").write_text(preset.replace("epochs: 5", "epochs: 7"))
    study = FILES["smaller.yaml"].replace("preset: nano", "preset: mine-preset.yaml")
    (as_written / "deep").mkdir()
    (as_written / "deep" / "s.yaml").write_text(study + "regime: resnet50\n")
    (as_written / "mine-preset.yaml").rename(as_written / "deep" / "mine-preset.yaml")
    table = json.loads(call("plan", "--study", "deep/s.yaml", "--format", "json"))
    assert {(row["epochs"], row["runs"]) for row in table} == {(7, 2)}
    assert table[0]["params"] > 20e6
    over = ["--regime", "nano", "--seeds", "3", "--preset", "nano"]
    table = json.loads(call("plan", "--study", "deep/s.yaml", "--format", "json", *over))
    assert {(row["epochs"], row["runs"]) for row in table} == {(5, 3)}
    assert table[0]["params"] < 1e6


def test_plan_says_what_a_study_costs(call: Call) -> None:
    told = call("plan", "--study", "leave-one-out", "--preset", "imagenet",
                "--images-per-second", "1000")  # fmt: skip
    dear = next(line for line in told.splitlines() if line.startswith(" no-depthwise"))
    assert re.search(r"186,770,536\s+29\.84\s+6\.7 x\s+enhanced\s+300 x 1,281,167", dear)
    assert dear.rstrip().endswith("out of proportion")
    assert told.count("out of proportion") == 1
    notes = [line for line in told.splitlines() if ": no-" in line]
    assert re.findall(r"no-depthwise|29.8 GFLOPs|6.7 x|convnext", notes[0]) == [
        "no-depthwise",
        "29.8 GFLOPs",
        "6.7 x",
        "convnext",
    ]
    assert "no-kernel-5: " in notes[1]
    assert "1,000 images/s for convnext" in told
    assert "the images are not in data/imagenet; counted for ImageNet-1K" in told
    rows = list(csv.DictReader(io.StringIO(call("plan", "--format", "csv"))))
    assert len(rows) == 17
    assert {row["hours_per_run"] for row in rows} == {""}
    assert "| resnet |" in call("plan", "--format", "markdown", "--until", "recipe")


def test_a_dry_run_has_the_same_numbers(call: Call, few_images: Path, tmp_path: Path) -> None:
    asked = ["--study", "leave-one-out", "--data", few_images]
    rows = json.loads(call("plan", *asked, "--images-per-second", "500", "--format", "json"))
    told = call(*asked, "--results", tmp_path, "--images-per-second", "500", "--dry-run")
    for row in rows:
        line = next(x for x in told.splitlines() if x.startswith(f" {row['step']} "))
        assert f" {row['params']:,} " in line
        assert f" {row['flops'] / 1e6:.2f} " in line
        assert f" {duration(3600 * row['hours_per_run'])} " in line
    whole = sum(row["hours_per_run"] for row in rows)
    assert f"About {duration(3600 * whole)} on one device" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_quick_measurement(call: Call, few_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablations.studies import measure

    monkeypatch.setattr(measure, "SECONDS", 0.05)
    asked = ["plan", "--study", "kernel-size", "--data", few_images, "--measure"]
    told = call(*asked, "--only", "convnext,kernel-size-15")
    assert "by a quick measurement of each network on " in told
    assert len(re.findall(r"5 x 2,000 +1 +(\d+ min )?\d+ s", told)) == 2
    monkeypatch.setattr(measure, "MEASURED", 1)
    told = call(*asked)
    assert "a quick measurement of convnext alone, the others by their FLOPs, on " in told
    rows = json.loads(call(*asked, "--format", "json"))
    assert len(rows) == 7
    for row in rows:
        scaled = rows[0]["hours_per_run"] * row["flops"] / rows[0]["flops"]
        assert row["hours_per_run"] == pytest.approx(scaled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "leave-one-in"], "unknown study 'leave-one-in'. Did you mean 'leave-one-out'"),
        (["--study", "nowhere.yaml"], "no study file 'nowhere.yaml'"),
        (["--study", "order", "--only", "microfirst.gelu"], "unknown step 'microfirst.gelu'"),
        (["--images-per-second", "10"], "--images-per-second"),
        (["--measure"], "--dry-run"),
        (["--dry-run", "--measure", "--images-per-second", "9"], "give one of"),
        (["plan", "--measure", "--images-per-second", "9"], "give one of"),
        (["plan", "--images-per-second", "0"], "--images-per-second"),
        (["plan", "--study", "order", "--only", "99"], "unknown step '99'"),
        (["--study", "order", "plan"], "--study"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_message_and_status_2(
    arguments: list[str], message: str, call: Call
) -> None:
    assert message in call(*arguments, status=2)


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [["plan", "--study", "order"], ["--study", "leave-one-out", "--dry-run"], ["--dry-run"]],
    ids=" ".join,
)
def test_planning_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    if "--dry-run" in arguments:
        arguments = [*arguments, "--results", str(tmp_path)]
    said = run_without_torch(*arguments, XDG_CACHE_HOME=tmp_path)
    assert "variants" in said or "runs to do" in said


def test_a_thousand_variants_are_planned(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(
        "title: many\nbase: {until: downsample}\nvariants:\n- sweep:\n"
        f"    width: {list(range(16, 116))}\n    kernel_size: [1, 3, 5, 7, 9]\n"
        "    norm: [batch, layer]\n"
    )
    rows = json.loads(call("plan", "--study", path, "--format", "json"))
    assert len(rows) == 1000  # 999 and the base, which is one of the combinations
    assert len({(row["params"], row["flops"]) for row in rows}) > 900


def test_a_network_that_two_studies_share_is_the_same_run(few_images: Path, tmp_path: Path) -> None:
    """A run's identity is its content; custom studies and layers do not change others'."""
    names = {
        p.run.name.rpartition("-")[2]: p.run.key
        for p in planned(Path("roadmap"), tmp_path / "a", few_images).planned
    }
    others = planned(Path("leave-one-out"), tmp_path / "b", few_images).planned
    same = {p.run.key: names.get(p.run.name.rpartition("-")[2]) for p in others}
    assert same["convnext"] == "downsample"
    assert same["no-downsample"] == "ln"
    assert same["no-gelu"] is None
    assert RunFolder(others[0].folder.path).path.name.startswith("convnext-seed0-")


@pytest.mark.integration
def test_variants_are_counted_like_steps(call: Call, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    star = ["--study", tmp_path / "star.yaml"]
    base, relu = json.loads(call("flops", *star, "--format", "json"))
    assert (base["step"], relu["step"], relu["regime"]) == ("convnext", "star-relu", "nano")
    blocks = sum(find_regime("nano").depths)
    assert relu["params"] == base["params"] + 2 * blocks  # a scale and a shift in each
    assert "StarReLU" in call("flops", *star, "--step", "star-relu")
    assert "star-rule" in call("flops", *star, "--step", "star-rule", status=2)
    road = call("flops", "--study", "roadmap", "--regime", "resnet50", "--format", "csv")
    assert road == call("flops", "--format", "csv")


def test_a_variant_with_the_key_of_a_step_has_not_its_published_figure(
    call: Call, tmp_path: Path
) -> None:
    """Unless it is the same network."""
    (tmp_path / "mine.yaml").write_text(
        "title: mine\npreset: nano\nregime: resnet50\nbase: {until: gelu, key: gelu}\n"
        "variants: [{key: ln, fields: {kernel_size: 3}}]"
    )
    rows = json.loads(call("flops", "--study", tmp_path / "mine.yaml", "--format", "json"))
    assert [(row["step"], row["paper_gflops"]) for row in rows] == [("gelu", "4.15"), ("ln", None)]


@pytest.mark.integration
def test_variants_are_drawn_like_steps(call: Call, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    star, smoothing = (["--study", tmp_path / f"{name}.yaml"] for name in ("star", "smoothing"))
    drawn = call("steps", "star-relu", *star)
    assert "star-relu" in drawn
    assert "convnext" in drawn  # with which it is compared
    listed = call("steps", *star, "--format", "csv").splitlines()
    assert [line.split(",")[1] for line in listed] == ["step", "convnext", "star-relu"]
    changes = call("steps", *smoothing, "--format", "csv")
    assert "label_smoothing 0" in changes
    assert "width 24 to 32" in changes
    architectures = call("steps", "--table", *star)
    assert "star-relu" in architectures
    assert "activation" in call("steps", "1", "--fields", *star)
    assert "star-rule" in call("steps", "star-rule", *star, status=2)
    assert "ConvNeXt-B" in call("steps", "ConvNeXt-B", "--fields", *star)


@pytest.mark.slow
def test_variants_are_measured_like_steps(call: Call, tmp_path: Path) -> None:
    """In processes that do not have the custom layers yet; plan then knows their speed."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    star = ["--study", tmp_path / "star.yaml", "--results", tmp_path]
    quick = ["--rounds", "1", "--seconds", "0.01", "--batch-size", "2", "--device", "cpu"]
    assert "star" in call("benchmark", *star, *quick, "--accuracy", "paper", status=2)
    said = call("benchmark", *star, *quick, "--mode", "training", "--format", "csv")
    assert "star-relu" in said
    [folder] = tmp_path.glob("benchmark-star-nano-*")
    rows = json.loads((folder / "benchmark.json").read_text())["rows"]
    assert [(row["names"], row["failure"]) for row in rows] == [
        (["convnext"], ""),
        (["star-relu"], ""),
    ]
    assert all(row["memory_mib"] for row in rows)
    planned = json.loads(call("plan", *star, "--benchmark", folder, "--format", "json"))
    assert all(row["hours_per_run"] > 0 for row in planned)
    assert "star-relu" in call("benchmark", "--redraw", folder)
