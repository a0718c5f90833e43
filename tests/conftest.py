"""What all tests share: their own cache of counts, one thread each, the golden option."""

import difflib
import gzip
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from cluster import Cluster, require_slurm
from command_line import TINY

from ablations import cli
from ablations.data.fashion_mnist import EMBEDDED
from modernize import cost, custom_layers, weights

# The networks of the tests are small, and the cores have other workers to serve: threads that wait
# for each other cost more than they bring. It must come before any import of torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser):
    parser.addoption(
        "--refresh-golden", action="store_true", help="rewrite tests/golden from the code as it is"
    )


def pytest_collection_modifyitems(items):
    """Skips the tests marked ``gpu`` where torch finds no GPU."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA GPU"))


_started: list[str] = []  # the Python processes that the current test has started


def _note_process(event, arguments):
    """Has a test know which Python processes it starts; all others are quick, such as git."""
    if event == "os.fork":
        _started.append("a fork")
    elif event == "subprocess.Popen" and sys.executable in str(arguments[1]):
        _started.append(str(arguments[1]))


sys.addaudithook(_note_process)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    _started.clear()


@pytest.fixture(autouse=True)
def processes_are_marked(request, monkeypatch):
    """Keeps `make quick` quick: a test that starts a Python process must say so by its marker."""
    start = BaseProcess.start
    monkeypatch.setattr(
        BaseProcess, "start", lambda self: (_started.append(repr(self)), start(self))[1]
    )
    yield
    if not any(map(request.node.get_closest_marker, ("integration", "slow", "weekly"))):
        assert not _started, "this test starts processes; mark it with pytest.mark.integration"


@pytest.fixture
def golden(request):
    """Compares a text with tests/golden/NAME.txt, which --refresh-golden writes again."""

    def compare(name, text):
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        if request.config.getoption("--refresh-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        diff = difflib.unified_diff(
            before.splitlines(), text.splitlines(), path.name, "the code as it is", lineterm=""
        )
        if before != text:
            again = f"If this is meant: pytest tests/{request.path.name} --refresh-golden"
            pytest.fail("\n".join([*diff, "", again]), pytrace=False)

    return compare


@pytest.fixture(autouse=True)
def one_thread():
    """Takes back what a command that ran in this process gave itself: all cores, for good."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def forget_custom_layers(monkeypatch):
    """Starts each test without loaded custom layers; calling it again is like a new process."""

    def forget():
        monkeypatch.setattr(custom_layers, "_loaded", {})
        weights._shapes.cache_clear()
        cost._count.cache_clear()

    monkeypatch.setattr(custom_layers, "_loaded", {})
    return forget


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps tests out of the user's cache; the workers of one run share theirs."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def _first_images(folder, train, val):
    """Writes the first images of the embedded set into a folder, and returns it."""
    for name, count, item in (
        ("train-images-idx3-ubyte", train, 28 * 28),
        ("train-labels-idx1-ubyte", train, 1),
        ("t10k-images-idx3-ubyte", val, 28 * 28),
        ("t10k-labels-idx1-ubyte", val, 1),
    ):
        raw = gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())
        header = 16 if item > 1 else 8
        head = raw[:4] + count.to_bytes(4, "big") + raw[8:header]
        (folder / name).write_bytes(head + raw[header : header + count * item])
    return folder


@pytest.fixture(scope="session")
def few_images(tmp_path_factory):
    """A folder of the first 2,000 training and 500 test images of the embedded set."""
    return _first_images(tmp_path_factory.mktemp("few-images"), 2_000, 500)


@pytest.fixture(scope="session")
def rows():
    """Images of three classes, for the kinds of data sets in data_kinds."""
    from data_kinds import rows_of

    return rows_of({"train": 6, "val": 2})


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory):
    """The same of 400 and 100 images, for tests of the fate of runs, not of their accuracy."""
    return _first_images(tmp_path_factory.mktemp("tiny-images"), 400, 100)


@pytest.fixture
def launch(few_images, tmp_path, monkeypatch, capsys):
    """Runs the main job (or `plan`), as small as can be, in this process; returns its output."""

    def run(*arguments, status=0):
        words = [word for setting in TINY for word in ("--set", setting)]
        words += ["--data", str(few_images)]
        if arguments[0] == "plan":
            words = ["plan", *words, *arguments[1:]]
        else:
            words += ["--results", str(tmp_path), "--jobs", "1", *arguments]
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == status, said.out + said.err
        return said.out + said.err

    return run


@pytest.fixture(scope="module")
def cluster():
    """A SLURM of one node that starts arrays of more than 1,000 jobs."""
    require_slurm()
    with Cluster(extra="MaxArraySize=1001") as cluster:
        yield cluster
