"""Reports phrases that are not plain, standard English: python tests/language.py [PATH...].

Reads docstrings, comments and texts of Python files, and all of Markdown, YAML, HTML, TOML and
notebooks; without a path, the whole repository. Prints a line for each phrase: the file, the line,
the phrase, and what to write instead. The exit status is 1 if there are any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT_FILES = {".md", ".yaml", ".yml", ".html", ".toml", ".ipynb", ".cff", ".template"}
EXCEPT = {"language.py", "test_language.py"}  # which name the phrases
FOLDERS = ("ablations", "modernize", "tests", "docs", "notebooks", ".github")

PHRASES = {
    # Pattern (a space matches any white space; the case does not matter) -> what to write instead.
    r"of one's own": "custom",
    r"of (your|its|their|my|our) own(?! \w+\b)": "custom, or a separate one; its own NOUN",
    r"own (layers?|stud(y|ies))\b": "custom layer, custom study, new step",
    r"(leave|leaves|leaving|left) away": "leave out, omit",
    r"but for": "except for, except",
    r"anew": "again",
    r"so (many|much) (?!as\b|that\b|more\b|less\b|fewer\b)": "that many, this many, a number of",
    r"(is|are|be|was|were) told": "prints, reports, is given",
    r"nobody (has|had|said|knows|asked|asks)": "no one; or name who or what is missing",
    r"whoever": "a user who, anyone who",
    r"where there (is|are|was|were) (no|none)\b": "if there is no, if there are none",
    r"where there is one\b": "if there is one",
    r"wh(at|o|ich) (came|becomes?|became) of": "the result of",
    r"came of it": "the result",
    r"what (is|are) (asked|wanted|meant|needed|left|there)\b": "a noun: the request, the rest",
    r"(returns|yields|from|of|with|by|beside|for) what\b": "a noun, not a clause with what",
    r"what not\b": "and so on; or list it",
    r"(lie|lies|lay|lain) (in|on|at|there|beside|under|where)\b": "is in, are in",
    r"where (it|they|studies|files|results|images) (lie|lies|lay)\b": "where it is",
    r"(stand|stands|stood) (in|on|at|there|here|beside|before|above|below|behind|under)\b": "is",
    r"how (it|they|this|a|the|every|each|all) (\w+ ){0,3}(stand|stands)\b": "the status of",
    r"(the|its|their|runs?'s?|both|these) ends of (runs?|jobs?|trainings?)\b": "outcomes, statuses",
    r"whole numbers?": "integer",
    r"multiply-accumulates?": "MACs",
    r"(?<!standard )deviations?(?! (from|of the))": "standard deviation",
    r"device[ -]batch(es)?": "micro-batch",
    r"site files?|--site\b|for a site": "SLURM configuration file, --slurm-config",
    r"--against\b": "--baseline",
    r"share of (an?|the) (batch|process|images)": "a process's part of; rank",
    r"contestants?|rivals?": "network, candidate, reference model",
    r"(is|are) called so": "is marked as such",
    r"(stay|stays|stayed) (as it|as they) (is|are)": "does not change",
    r"(goes|go) on (with|from|where)": "continues with, resumes from",
    r"for (it|they|nothing|nobody|no one|there) (is|are|has|have|would|can|may)\b": "because",
    r"as (is|are|was|were) (said|told|asked)": "as stated, as requested",
    r"has it that": "states that",
    r"mind (that|the)\b": "note that",
    r"it is (with|of) these": "these",
    r"at whatever": "at any",
    r"however (many|much|narrow|long|large|small)": "any number of, of any width",
    r"(would|will|must|can) else\b": "otherwise",
    r"; else\b|, else\b(?! (if|None|return))": "otherwise",
    r"lest": "so that ... not",
    r"hence|thereof|therein|whereof|wherein|thereby|thereupon|hitherto|whence|whither": (
        "plain words: so, of it, in it"
    ),
    r"nought|naught|aught": "nothing, zero",
    r"save (for|that)\b": "except for, except that",
    r"by heart|by the ear|word of mouth": "plain words",
    r"gets? on with": "works with",
    r"it says? (so|nothing)\b": "it reports, it does not say",
}
_PATTERN = {
    re.compile(rf"(?<![\w-])(?:{phrase.replace(' ', chr(92) + 's')})(?![\w-])", re.I): advice
    for phrase, advice in PHRASES.items()
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the texts of a file that people read, each with the number of its first line."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, content
        return
    for node in ast.walk(ast.parse(content)):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Constant) and isinstance(value, str) and not value.isidentifier():
            yield node.lineno, value
    block, first, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if line != last + 1:
            yield first, block
            block, first = "", line
        block, last = f"{block}{token.string.lstrip('# ')}\n", line
    yield first, block


def faults(path: Path) -> list[tuple[int, str, str]]:
    """Returns the phrases of a file: the line, the phrase, and what to write instead."""
    found = [
        (first + text.count("\n", 0, match.start()), match[0].replace("\n", " "), advice)
        for first, written in texts(path)
        for text in [re.sub(r"[ \t]*\n[ \t]*", "\n", written)]
        for pattern, advice in _PATTERN.items()
        for match in pattern.finditer(text)
    ]
    return sorted(set(found))


def files(given: list[Path]) -> list[Path]:
    """Returns the files to read: those given, those in given folders, or all of the repository."""
    top = [path for path in ROOT.iterdir() if path.is_file() or path.name in FOLDERS]
    found = {
        file
        for path in given or top
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.suffix in {*TEXT_FILES, ".py"} and file.name not in EXCEPT
    }
    return sorted(found)


def main() -> int:
    """Prints all phrases, and returns the exit status."""
    count = 0
    for path in files([Path(word).resolve() for word in sys.argv[1:]]):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for line, phrase, advice in faults(path):
            print(f"{shown}:{line}: {phrase!r}: write {advice}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main())
