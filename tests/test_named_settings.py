"""Every setting that a message, a help text or README names is one that there is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ablations.recipe import load_preset
from modernize.errors import UnknownNameError, UsageError

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"--set[ \n]+(?:KEY=VALUE|([a-z_]+(?:\.[a-z_]+)*))")


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the program, with its strings joined as they are shown, and README."""
    yield "README.md", (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("ablations", "modernize"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path.name, node.value


def exists(key: str) -> bool:
    """Tells whether --set knows a key, whatever it makes of its value."""
    try:
        load_preset("nano", [f"{key}=null"])
    except UnknownNameError:
        return False
    except UsageError:
        return True
    return True


def test_named_settings_exist() -> None:
    named = {(key, name) for name, text in texts() for key in NAMED.findall(text) if key}
    assert len({key for key, _ in named}) > 5
    assert [(key, name) for key, name in sorted(named) if not exists(key)] == []
    assert not exists("workers")
    assert exists("compute.workers")
