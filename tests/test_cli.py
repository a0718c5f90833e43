"""The command line, as a user meets it."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import PATIENCE, ROOT, call, run_program, run_without_torch

from ablations.cli import cli, main

SETTINGS = ("epochs=2", "batch_size=100", "micro_batch_size=100", "enhanced.warmup_epochs=0.5")
FAST = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["steps"],
        ["steps", "downsample"],
        ["steps", "resnet", "downsample", "--table", "--regime", "resnet200"],
        ["steps", "--output", "OUT.svg"],
        ["flops", "--regime", "nano"],
        ["flops", "--models"],
        ["flops", "--task", "detection"],
        ["flops", "--task", "segmentation", "--models"],
        ["plot", "--from", "paper", "--output", "OUT.svg"],
        ["compare", "paper"],
        ["convert", "--help"],
        ["benchmark", "--help"],
        ["--bad-option"],
    ],
    ids=" ".join,
)
def test_quick_commands_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    arguments = [a.replace("OUT", str(tmp_path / "out")) for a in arguments]
    if arguments[0] == "flops":
        call(*arguments)  # counted once, with torch; asked again, without
    run_without_torch(*arguments, status=2 * (arguments == ["--bad-option"]))


def test_steps_lists_the_road_and_shows_one_step() -> None:
    listed = call("steps", "--regime", "resnet200")
    assert "width 64 to 84" in listed
    assert listed.count("side branch") == 2
    shown = call("steps", "15", "--fields")
    assert "norm batch to layer" in shown
    assert "kernel_size: 7" in shown


@pytest.mark.integration
def test_flops_as_csv() -> None:
    text = call("flops", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.startswith("step,label,params,flops,flops_total,paper_gflops,agrees,")
    assert len(rows) == 17
    assert {r["step"] for r in rows if r["agrees"] == "no"} == {"ln", "downsample"}
    assert rows[0]["params"] == "25557032"
    assert all(r["note"] for r in rows if r["agrees"] == "no")


@pytest.mark.integration
def test_flops_in_other_forms() -> None:
    rows = json.loads(call("flops", "--regime", "resnet200", "--format", "json"))
    assert rows[-1]["params"] == 88_591_464
    assert all(row["agrees"] is True for row in rows)
    both = call("flops", "--regime", "resnet50", "--regime", "nano", "--until", "1",
                   "--format", "markdown")  # fmt: skip
    assert both.count("| resnet |") == 2
    assert "* ln" not in both  # the star's meaning stands beneath, where there is a star
    starred = call("flops", "--format", "markdown")
    assert "\n- \\* ln: the printed cell" in starred
    other_size = call("flops", "--image-size", "64", "--until", "0", "--format", "json")
    assert json.loads(other_size)[0]["paper_gflops"] is None


@pytest.mark.integration
def test_one_steps_breakdown() -> None:
    text = call("flops", "--step", "downsample")
    assert "conv" in text
    assert "layer_norm" in text
    assert "stages.3" in text
    parts = csv.DictReader(io.StringIO(call("flops", "--step", "ln", "--format", "csv")))
    assert {"conv", "stages.3"} <= {part["name"] for part in parts}


def test_a_narrow_terminal_loses_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert "25,557,032" in call("flops", "--until", "0")


@pytest.mark.integration
def test_the_main_job_from_nothing_to_the_chart_and_again(tmp_path: Path, few_images: Path) -> None:
    study = tmp_path / "nano"
    asked = ["--until", "recipe", "--results", tmp_path, "--data", few_images, *FAST]
    assert "2 of 2 runs to do" in call(*asked, "--dry-run")
    assert not study.exists()

    first = run_program(*asked)
    assert "[2/2]" in first
    files = {path.name for path in study.iterdir()}
    assert {"study.json", "summary.csv", "roadmap.png", "roadmap.svg", "runs"} <= files
    header = (study / "summary.csv").read_text().splitlines()[0]
    assert header.startswith("step,label,n,top1,top1_std")
    records = {p: p.read_text() for p in study.glob("runs/*/record.json")}
    assert len(records) == 2

    again = call(*asked)
    assert "0 of 2 runs to do" in again
    assert again.count("skip: finished") == 2
    assert {p: p.read_text() for p in study.glob("runs/*/record.json")} == records

    more = call("--only", "resnet", "--seeds", "2", *asked[2:])
    assert "1 of 2 runs to do" in more
    text = (study / "summary.csv").read_text()
    table = list(csv.DictReader(io.StringIO(text)))
    assert [(row["step"], row["n"], row["status"]) for row in table] == [
        ("resnet", "2", "finished"),
        ("recipe", "1", "partial"),
    ]
    there = ["--results", tmp_path]
    assert "| resnet |" in call("collect", "nano", "--format", "markdown", *there)
    for kind in ("png", "svg", "pdf"):
        path = tmp_path / f"chart.{kind}"
        call("plot", "--from", "nano", *there, "--output", path)
        assert path.stat().st_size > 5_000

    # A run is described from its folder or its file, and converted if the other library has such a
    # network: it has other images than torchvision's, but the same structure.
    folder = next(study.glob("runs/recipe-*"))
    for source in (folder, folder / "weights.pt"):
        told = call("convert", source, "--to", "timm", "--output", tmp_path / "t.pth")
        assert "step            resnet\n" in told
        assert "depths          1,1,2,1\n" in told
        assert f"Wrote {tmp_path / 't.pth'}: layout timm, " in told
    told = call("convert", tmp_path / "t.pth")
    assert "torchvision's or timm's ResNet, all tensors fit" in told

    # A damaged record is reported, and its run trained again; nothing else is.
    victim = min(records)
    victim.write_text('{"status": "fini')
    assert "1 of 2 runs to do" in call(*asked, "--dry-run")
    assert "its record is damaged" in call(*asked)
    assert json.loads(victim.read_text())["status"] == "finished"

    # Another preset does not mix with it.
    other = call(*asked, "--set", "epochs=3", status=2)
    assert "epochs: 2 there, 3 here" in other
    assert "--name" in other


@pytest.mark.integration
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    tmp_path: Path, few_images: Path
) -> None:
    command = [sys.executable, str(ROOT / "run_roadmap.py"), "--until", "recipe", "--jobs", "1",
               "--results", str(tmp_path), "--data", str(few_images), *FAST,
               "--set", "enhanced.epochs=300"]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in a shell's background, Ctrl-C is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + PATIENCE
    runs = tmp_path / "nano" / "runs"
    while time.monotonic() < deadline and not list(runs.glob("recipe-*/checkpoint-*.pt")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert len(list(runs.glob("resnet-*/record.json"))) == 1
    assert "finished" in (tmp_path / "nano" / "summary.csv").read_text()
    dry = call(*command[2:], "--dry-run")
    assert "1 of 2 runs to do" in dry
    assert "after epoch" in dry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--until", "lm"], "unknown step 'lm'. Did you mean 'ln'? Valid: resnet, recipe"),
        (["--only", "ln,99"], "unknown step '99'"),
        (["--from", "ln", "--until", "gelu"], "--from ln --until gelu leaves no step"),
        (["--regime", "resnet-50"], "unknown regime 'resnet-50'. Did you mean 'resnet50'?"),
        (["--preset", "nanu"], "unknown preset 'nanu'. Did you mean 'nano'?"),
        (["--set", "epoch=3"], "unknown key 'epoch'. Did you mean 'epochs'?"),
        (["--set", "epochs=none"], "epochs: Input should be a valid integer"),
        (["--data", "EMPTY"], "no Fashion-MNIST images in EMPTY"),
        (["--name", "../up"], "--name '../up'"),
        (["--name", "paper"], "--name 'paper'"),
        (["--until", "ln", "flops"], "--until"),
        (["flops", "--step", "lnn"], "unknown step 'lnn'"),
        (["flops", "--image-size", "8"], "8"),
        (["steps", "nothing"], "'nothing'"),
        (["plot", "nowhere"], "no study 'nowhere'"),
        (["plot", "paper", "--from", "paper"], "--from"),
        (["logs", "reference-nano"], "--step"),
        (["plot", "--from", "paper", "--output", "x.gif"], ".gif"),
        (["collect", "nowhere"], "no study 'nowhere'"),
        (["convert", "nothing.pth"], "there is no file nothing.pth"),
        (["convert", "EMPTY"], "EMPTY is not the folder of a finished run"),
        (["convert", "a.pth", "--to", "timm"], "--to LAYOUT and --output FILE go together"),
        (["convert", "a.pth", "--to", "tim", "--output", "b.pth"], "Did you mean 'timm'?"),
        (["convert", "a.pth", "--to", "timm", "--output", "b.h5"], "b.h5"),
        (["convert", "README.md", "--to", "timm", "--output", "no/b.pt"], "there is no folder no"),
        (["convert", "SELF", "--to", "timm", "--output", "SELF"], "self.pt"),
        (["--jobs", "0"], "--jobs"),
        (["flop"], "flop"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_message_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "self.pt").touch()
    places = {"EMPTY": str(tmp_path), "SELF": str(tmp_path / "self.pt")}
    arguments = [places.get(a, a) for a in arguments]
    if arguments[0].startswith("--"):
        arguments = ["--dry-run", *arguments] if "flops" not in arguments else arguments
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert message.replace("EMPTY", str(tmp_path)) in capsys.readouterr().err


def test_an_unwritable_results_folder_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "nano").write_text("a file where the study's folder should be")
    arguments = ["--until", "resnet", "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "--results" in error


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "--debug", "--until", "lm"])
    with pytest.raises(SystemExit):
        main()
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.integration
def test_output_can_be_cut_short() -> None:
    command = f"{sys.executable} {ROOT / 'run_roadmap.py'} flops --format csv | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("step,")
    assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_collapsed_runs_are_said_loudly(tmp_path: Path, few_images: Path) -> None:
    told = call(
        "--only", "patchify", "--results", tmp_path, "--data", few_images, *FAST,
        "--set", "enhanced.learning_rate=1e-9", "--set", "enhanced.final_learning_rate=0",
    )  # fmt: skip
    assert told.count("COLLAPSED: top-1 of") == 2
    assert "collapsed" in (tmp_path / "nano" / "summary.csv").read_text()


def test_the_list_of_commands_cuts_no_sentence() -> None:
    listed = call("--help").partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(cli.commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.integration
@pytest.mark.parametrize("study", ["two", "results/two", "results/two/", "ABSOLUTE", ".", None])
def test_a_study_is_named_or_given_by_its_path(
    study: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results" / "two"
    shutil.copytree(ROOT / "results" / "reference-nano", folder)
    (folder / "submissions").mkdir(exist_ok=True)  # it was launched
    monkeypatch.chdir(folder if study == "." else tmp_path)
    words = {"ABSOLUTE": [str(folder)], ".": ["./"], None: []}.get(study, [study])
    told = [call(name, *words) for name in ("status", "collect", "compare", "report", "plot")]
    assert "two: " in "".join(told)


@pytest.mark.parametrize("command", [None, *sorted(cli.commands)])
def test_every_command_has_both_help_options(command: str | None) -> None:
    shown = {
        CliRunner().invoke(cli, [*([command] if command else []), option]).output
        for option in ("-h", "--help")
    }
    assert len(shown) == 1
    assert "-h, --help" in shown.pop()
