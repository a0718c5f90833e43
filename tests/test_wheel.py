"""The built wheel, installed outside the repository, works in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("modernize", "ablations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = source / "dist"
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", target, source], check=True, cwd=source)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, and with this one's libraries behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    libraries = folder / site_packages(folder) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib"))  # its .pth files are not read
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True, cwd=folder, env=outside())
    return folder


def outside():
    """The variables of this process, without the repository on Python's path."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def site_packages(folder):
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


def files_of(environment):
    return {
        path: path.stat().st_mtime_ns
        for path in site_packages(environment).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_two_packages_and_their_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "modernize",
        "ablations",
        f"convnext_roadmap-{VERSION}.dist-info",
    }
    tracked = subprocess.run(
        ["git", "ls-files", "modernize", "ablations"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode == 0:  # not in an archive of the repository
        assert set(tracked.stdout.splitlines()) <= set(names)


def test_the_commands_work_in_an_empty_folder(environment, tmp_path):
    here = tmp_path / "empty"
    here.mkdir()
    variables = {**outside(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    before = files_of(environment)

    def call(*words):
        result = subprocess.run(
            [environment / "bin" / words[0], *words[1:]],
            cwd=here, env=variables, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        return result.stdout

    assert VERSION in call("python", "-m", "ablations", "--version")
    assert "4.09" in call("convnext-roadmap", "flops")
    assert "81.97" in call("convnext-roadmap", "compare", "paper")
    call("convnext-roadmap", "plot", "--from", "paper")
    call("convnext-roadmap", "--smoke", "--until", "recipe", "--jobs", "1")
    call("convnext-roadmap", "report")
    assert "recipe" in call("convnext-roadmap", "status")

    assert {path.name for path in here.iterdir()} == {
        "roadmap-paper.png",
        "roadmap-paper.svg",
        "results",
    }
    (study,) = (here / "results").iterdir()
    assert (study / "report.html").is_file()
    for path in study.glob("runs/*/record.json"):
        provenance = json.loads(path.read_text())["provenance"]
        assert provenance["packages"]["convnext-roadmap"] == VERSION
        assert provenance["commit"] is None
    assert len(list(study.glob("runs/*/record.json"))) == 2
    assert files_of(environment) == before
