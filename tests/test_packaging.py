"""What the code imports is what the project declares."""

import ast
import graphlib
import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
OPTIONAL = {"wandb": ["wandb"], "mlflow": ["mlflow-skinny"]}  # need not be installed here
OURS = {"modernize", "ablations", "tests", *(p.stem for p in Path(__file__).parent.glob("*.py"))}


def imported_by(code: str) -> set[str]:
    """Top-level modules that this code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def imported(*folders: str) -> set[str]:
    """Top-level modules from elsewhere that the code in these folders imports, notebooks too."""
    names: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path.parent.name == "benchmarks":  # they also import what they are pointed at
                continue
            names |= imported_by(path.read_text(encoding="utf-8"))
        for path in (ROOT / folder).glob("*.ipynb"):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
            names |= imported_by("\n".join(code))
    return names - OURS - set(sys.stdlib_module_names)


def declared(*groups: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for group in groups:
        lines += project["optional-dependencies"][group]
    return {re.split(r"[<>=!~ \[]", line)[0].lower() for line in lines}


def distributions(modules: set[str]) -> set[str]:
    known = {**OPTIONAL, **importlib.metadata.packages_distributions()}
    return {known[module][0].lower() for module in modules}


@pytest.mark.integration
def test_every_import_is_declared() -> None:
    assert distributions(imported("modernize", "ablations")) <= declared("wandb", "mlflow")
    assert distributions(imported("notebooks")) <= declared("notebook")
    assert distributions(imported("tests")) <= declared("test")


def rooms() -> dict[str, set[str]]:
    """Each folder of ablations, or module beside them, with the others that it imports from."""
    graph: dict[str, set[str]] = {}
    for path in [*(ROOT / "ablations").rglob("*.py"), *(ROOT / "modernize").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        here = graph.setdefault(room(parts), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                start = tuple(node.module.split("."))
                here |= {room((*start, alias.name)) for alias in node.names if start[0] in OURS}
    return {here: there - {here} for here, there in graph.items()}


def room(parts: tuple[str, ...]) -> str:
    return parts[0] if parts[0] == "modernize" else ".".join(parts[:2]).removesuffix(".__init__")


def test_imports_go_one_way() -> None:
    """No two folders of ablations import each other, not even by way of others; modernize none."""
    graph = rooms()
    assert {"modernize", "ablations.cli", "ablations.training", "ablations.records"} <= set(graph)
    assert graph["modernize"] == set()
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises where there is a circle
    assert order[0] == "modernize"
    assert order[-2:] == ["ablations.cli", "ablations.__main__"]


def test_what_is_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
