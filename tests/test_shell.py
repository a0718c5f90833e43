"""What started a command, and what it may do to it: streams, folders, variables, signals."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import PATIENCE, ROOT, call

from ablations.launching.torchrun import TorchrunEnvironment as Torchrun
from ablations.launching.torchrun import find_torchrun
from modernize.errors import UsageError

PROGRAM = [sys.executable, str(ROOT / "run_roadmap.py")]
TINY = ["--only", "ln", "--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=1000"]
TINY += ["--set", "micro_batch_size=1000"]
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}


def shell(script: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command as the script's $0 does."""
    command = " ".join(PROGRAM)
    return subprocess.run(
        ["bash", "-c", script.replace("COMMAND", command), "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **variables},
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("COMMAND steps ln >/dev/full", 1, "No space left"),
        ("COMMAND steps ln >&-", 1, "Bad file descriptor"),
        ("COMMAND steps ln >&- 2>&-", 1, ""),
        ("COMMAND steps nosuch >&- 2>/dev/full", 2, ""),
        ("COMMAND steps ln <&- | head -1; exit ${PIPESTATUS[0]}", 0, "BN to LN"),
        ('mkdir "$1/gone"; cd "$1/gone"; rmdir "$1/gone"; COMMAND steps ln', 2, "folder"),
    ],
)
def test_output_that_cannot_be_written(tmp_path: Path, script: str, status: int, said: str) -> None:
    done = shell(script, str(tmp_path))
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_characters_that_an_encoding_lacks(variables: dict[str, str]) -> None:
    done = shell("COMMAND flops --regime nano --step \u00e9t\u00e9", **variables)
    assert done.returncode == 2
    assert "unknown step" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_charts_need_no_backend_and_no_settings_file(tmp_path: Path) -> None:
    """What matplotlib refuses to be imported with; the chart is the usual one."""
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: \xff\n")
    drawn = []
    for number, backend in enumerate(("", "nosuch", "module://matplotlib_inline.backend_inline")):
        chart = tmp_path / f"{number}.svg"
        script = f"cd {tmp_path if backend else ROOT}; COMMAND plot --from paper --output {chart}"
        done = shell(script, MPLBACKEND=backend)
        assert done.returncode == 0, done.stderr
        drawn.append(chart.read_bytes())
    assert drawn == [drawn[0]] * 3


@pytest.mark.integration
def test_without_a_home_nothing_is_kept() -> None:
    program = (
        "import pwd\n"
        "def unknown(*_): raise KeyError('uid not found')\n"
        "pwd.getpwuid = pwd.getpwnam = unknown\n"
        "import ablations.data.datasets\n"
        "from modernize import cache, cost, spec_of\n"
        "assert not cache.cache_folder().exists()\n"
        "print(cost.cost(spec_of('ln', 'nano'), 32).params)\n"
    )
    homeless = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=homeless, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.parametrize(
    ("variables", "group"),
    [
        ({}, None),
        ({"RANK": "1"}, None),
        ({"WORLD_SIZE": "", "RANK": "x"}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({**TORCHRUN, "MASTER_PORT": "29500"}, Torchrun(1, 2, 0, 1)),
        (
            {**TORCHRUN, "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "2"},
            Torchrun(1, 2, 0, 2),
        ),
        ({"WORLD_SIZE": "2"}, "RANK is not set; LOCAL_RANK is not set; MASTER_ADDR is not set"),
        (TORCHRUN, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "\u0662"}, "WORLD_SIZE is '\u0662'"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK is 1, not below WORLD_SIZE, 1"),
        ({**TORCHRUN, "MASTER_PORT": "1", "RANK": "2"}, "RANK is 2"),
        ({**TORCHRUN, "MASTER_PORT": "1", "LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
    ],
)
def test_the_variables_of_torchrun(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    group: Torchrun | str | None,
) -> None:
    for name in (*TORCHRUN, "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if isinstance(group, str):
        with pytest.raises(UsageError, match=group):
            find_torchrun()
    else:
        assert find_torchrun() == group


def _in_the_foreground() -> None:
    """Readies a new process for the terminal's signals, which the tests' own may ignore."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command in a new terminal, which may be closed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.shown = b""
        self.end, inside = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=inside, stdout=inside, stderr=inside, cwd=folder, start_new_session=True,
            preexec_fn=_in_the_foreground,
            env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(inside)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while said := os.read(self.end, 65536):
                self.shown += said
        except OSError:  # all have closed it
            pass

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.shown.decode()
            assert time.monotonic() < deadline, self.shown.decode()
            time.sleep(0.02)

    def finish(self) -> int:
        status = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return status


def status(results: Path) -> str:
    return call("status", "--results", results).splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("early", "number"),
    [
        (True, signal.SIGINT),
        (True, signal.SIGTERM),
        (False, signal.SIGINT),
        (False, signal.SIGTERM),
        (False, signal.SIGHUP),
    ],
)
def test_a_signal_to_all_processes_stops_a_launch(
    few_images: Path, tmp_path: Path, early: bool, number: signal.Signals
) -> None:
    """After the first words, or when a run trains: all is on record, and the cursor back."""
    (tmp_path / "torch.py").write_text("raise ImportError('the one in the current folder')")
    asked = ["--only", "width,ln", "--jobs", "1", "--results", str(tmp_path / "results")]
    asked += ["--data", str(few_images), "--set", "epochs=500", "--set", "batch_size=100"]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
    terminal = Terminal(tmp_path, *asked, "--set", "micro_batch_size=100")
    signal.signal(signal.SIGHUP, before)
    study = tmp_path / "results" / "nano"
    terminal.wait_for(
        lambda: all((study / f"{name}.json").exists() for name in ("study", "launch"))
    )
    if early:
        assert status(study.parent) == "nano: 2 queued"
        terminal.wait_for(lambda: b"Training on" in terminal.shown)
    else:
        terminal.wait_for(lambda: any(study.glob("runs/*/progress.json")))
        assert status(study.parent) == "nano: 1 running, 1 queued"
    os.killpg(terminal.process.pid, number)
    assert terminal.finish() == 128 + number
    said = terminal.shown.decode()
    assert "Traceback" not in said
    assert "the same command" in said
    assert said.rfind("\x1b[?25l") <= said.rfind("\x1b[?25h")  # hidden, and shown again
    left = "nano: 2 missing" if early else "nano: 1 stopped, 1 missing"
    assert status(study.parent) == left
    assert "running" not in call("collect", "--results", study.parent)


@pytest.mark.slow
@pytest.mark.parametrize("end", [">/dev/full", "| head -1 >/dev/null", ">&- 2>&-"])
def test_training_goes_on_without_a_display(few_images: Path, tmp_path: Path, end: str) -> None:
    asked = " ".join([*TINY, "--data", str(few_images), "--results", str(tmp_path)])
    done = shell(f"COMMAND {asked} {end}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert status(tmp_path) == "nano: 1 finished"
    assert (tmp_path / "nano" / "roadmap.svg").read_text().endswith("</svg>\n")


@pytest.mark.slow
def test_training_outlives_its_terminal(few_images: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    asked = [*TINY, "--data", str(few_images), "--results", str(tmp_path)]
    terminal = Terminal(tmp_path, *asked)
    signal.signal(signal.SIGHUP, before)
    terminal.wait_for((tmp_path / "nano" / "launch.json").exists)
    os.close(terminal.end)
    assert terminal.process.wait(PATIENCE) == 0
    assert status(tmp_path) == "nano: 1 finished"
