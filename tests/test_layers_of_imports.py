"""Imports have one direction: no cycles, and no package imports one above it."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Package -> packages that it must not import, not even inside a function.
FORBIDDEN = {
    "modernize": ["ablations"],
    "ablations.recipe": ["ablations.records", "ablations.data", "ablations.training"],
    "ablations.records": [
        f"ablations.{name}"
        for name in ("data", "training", "launching", "analysis", "charts", "report", "studies")
    ],
    "ablations.data": ["ablations.records", "ablations.training", "ablations.launching"],
    "ablations.training": ["ablations.launching", "ablations.analysis", "ablations.studies"],
    "ablations.studies": ["ablations.launching", "ablations.analysis", "ablations.report"],
    "ablations.launching": ["ablations.analysis", "ablations.charts", "ablations.report"],
    "ablations.analysis": ["ablations.launching", "ablations.training", "ablations.charts"],
    "ablations.charts": ["ablations.launching", "ablations.training", "ablations.report"],
    "ablations.report": ["ablations.launching", "ablations.training"],
}
ABOVE_ALL = ["ablations.commands", "ablations.cli", "ablations.__main__"]


@cache
def modules() -> dict[str, Path]:
    """Name -> file, of all modules of the program."""
    found = {}
    for package in ("modernize", "ablations"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str, *, functions: bool) -> set[str]:
    """Modules of the program that a module imports, except for type checkers.

    Args:
        module: its name.
        functions: whether imports inside functions count; else only those at import time.
    """
    found = set()
    for name in _names(ast.parse(modules()[module].read_text()), functions):
        candidates = (name, name.rpartition(".")[0])
        found.update([candidate for candidate in candidates if candidate in modules()][:1])
    return found - {module}


def _names(tree: ast.AST, functions: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(source), names=names):
                yield from (f"{source}.{alias.name}" for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.FunctionDef() if not functions:
                pass
            case _:
                yield from _names(node, functions)


def package_of(module: str) -> str:
    """The part of the program that a module belongs to: "modernize", "ablations.records" ..."""
    parts = module.split(".")
    return parts[0] if parts[0] == "modernize" else ".".join(parts[:2])


def test_the_graph_sees_imports() -> None:
    assert len(modules()) > 100
    executors = "ablations.launching.executors"
    assert "ablations.launching.job" in imports(executors, functions=False)
    assert "ablations.launching.slurm" not in imports(executors, functions=False)
    assert "ablations.launching.slurm" in imports(executors, functions=True)
    assert imports("ablations.units", functions=True) == {"modernize.text"}
    assert {p for ps in FORBIDDEN.values() for p in ps} <= {
        "ablations", *map(package_of, modules())
    }  # fmt: skip


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(
            {module: imports(module, functions=False) for module in modules()}
        ).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_package_imports_itself_through_others() -> None:
    """Imports inside functions count: a package is understood without those above it."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        used = {package_of(name) for name in imports(module, functions=True)}
        graph.setdefault(package_of(module), set()).update(used - {package_of(module)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_package_imports_what_stands_above_it() -> None:
    wrong = []
    for module in modules():
        package = package_of(module)
        above = FORBIDDEN.get(package, []) + [p for p in ABOVE_ALL if package not in ABOVE_ALL]
        wrong += [
            f"{module} imports {name}"
            for name in imports(module, functions=True)
            if any(name == part or name.startswith(f"{part}.") for part in above)
        ]
    assert not sorted(wrong)
