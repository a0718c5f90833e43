"""Files for contributors and for services that read a repository."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from modernize.libraries import PAIR

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["ci.yml", "weekly.yml"])
def test_workflows_run_what_the_repository_has(name):
    workflow = load(f".github/workflows/{name}")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    for command in commands:
        program, *words = command.split()
        if program == "make":
            assert set(words) <= make_targets()
        elif "/" in program:
            assert (ROOT / program).is_file()


def test_fast_tests_run_on_every_declared_python_and_on_both_ends_of_the_versions():
    matrix = load(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["include"]
    declared = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    locked = {entry["python"] for entry in matrix if entry["versions"] == "locked"}
    assert locked == declared
    assert {entry["versions"] for entry in matrix} == {"locked", "lowest", "newest"}
    files = {entry["constraint"].removeprefix("--constraint ") for entry in matrix} - {""}
    assert all((ROOT / name).is_file() for name in files)


def test_pre_commit_and_the_issue_form():
    hooks = load(".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy"}
    fields = load(".github/ISSUE_TEMPLATE/bug.yml")["body"]
    assert {field["type"] for field in fields} <= {"textarea", "input"}
    assert len({field["id"] for field in fields}) == len(fields)


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == PROJECT["version"]


def test_targets_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= make_targets()


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def bounds():
    """Each declared requirement with its lower bound, "" without one."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["test"], *extras["dev"]]
    pairs = (re.fullmatch(r"([\w.-]+)(?:>=([\w.]+))?", line) for line in lines)
    return {pair[1].lower(): pair[2] or "" for pair in pairs if pair}


def test_every_lower_bound_is_pinned_for_its_test():
    lowest = pins("requirements-lowest.txt")
    claimed = {name: bound for name, bound in bounds().items() if bound}
    assert lowest.keys() == claimed.keys()
    for name, bound in claimed.items():
        version = lowest[name]
        assert version == bound or version.startswith(f"{bound}."), name
        assert set(version.removeprefix(bound)) <= {".", "0"}, name


def test_the_pair_that_a_message_names_is_the_locked_one():
    locked = pins("requirements.txt")
    assert f"torch=={locked['torch']} torchvision=={locked['torchvision']}" == PAIR


def test_every_dependency_is_locked():
    locked = {re.sub(r"[-_.]+", "-", name) for name in pins("requirements.txt")}
    unlocked = {re.sub(r"[-_.]+", "-", name) for name in bounds()} - locked
    assert unlocked <= {"setuptools"}  # pip freeze leaves it out on some versions of Python
