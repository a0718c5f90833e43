"""README and docs as data: their fenced blocks, commands, links and headings."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = "python run_roadmap.py"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the first word behind the fence.
        name: the second, a file's name; empty if there is none.
        text: what is inside.
    """

    language: str
    name: str
    text: str

    def commands(self) -> Iterator[tuple[list[str], str]]:
        """Yields each command line as words, and the output that a `console` block shows."""
        if self.language == "console":
            for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                yield shlex.split(line), output
        else:
            for line in self.text.splitlines():
                if words := shlex.split(line, comments=True):
                    yield words, ""


def blocks(path: Path, *languages: str) -> list[Block]:
    """Returns the blocks of a document in these languages, in order."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found if parts[0] in languages]


def files(path: Path) -> dict[str, str]:
    """Returns the files that a document shows: their names and contents."""
    return {block.name: block.text for block in blocks(path, "yaml", "python") if block.name}


def links(path: Path) -> list[str]:
    """Returns the targets of a document's links to other files and headings."""
    text = path.read_text(encoding="utf-8")
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("http")]


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub gives a document's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def beginning(line: str) -> str:
    """Returns a line as far as its first number or its third word; the rest may differ by run."""
    if set(line) <= set(" ─"):
        return line[:2]
    found = re.match(r"\D{,3}(\s*[^\s\d]+){,2}", line)
    return found[0] if found else ""
