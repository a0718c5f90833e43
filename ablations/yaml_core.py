"""YAML 1.2 with its core schema: text becomes plain values, each with its line.

PyYAML scans and parses; this module decides what a plain scalar means, because in YAML 1.1, which
PyYAML follows, ``12:00:00`` is 43200, ``010`` is 8, ``no`` is false and ``4e-3`` is text. Features
that this program does not need, or that let a small file grow without bounds, are refused: tags,
merge keys, several documents, duplicate keys, recursive aliases, deep nesting.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml

from ablations.units import integer

Key: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 20  # of nested lists and mappings
MAX_VALUES = 20_000  # of a document, with aliases expanded
MAX_DIGITS = 100  # of an integer

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_OTHER_BREAK = re.compile("[\x85\u2028\u2029]")  # they end a line in YAML 1.1, but not in 1.2


class YamlError(ValueError):
    """A text that is not accepted as YAML.

    Attributes:
        faults: the line and the message of each.
    """

    def __init__(self, *faults: tuple[int, str]) -> None:
        super().__init__("; ".join(f"line {line}: {message}" for line, message in faults))
        self.faults = faults


@dataclasses.dataclass(frozen=True)
class Document:
    """The content of a YAML text.

    Attributes:
        values: null, Booleans, numbers, text, lists, and mappings whose keys are text.
        lines: of every key, and of every item of a list.
    """

    values: Any
    lines: Mapping[Key, int]


def scalar(text: str) -> bool | int | float | str | None:
    """Returns the value of a plain scalar in YAML's core schema.

    Raises:
        ValueError: for an integer of more than :data:`MAX_DIGITS` digits.
    """
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found.group(1) is not None
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(
                f"a number of {integer(len(text))} digits; the maximum is {MAX_DIGITS}"
            )
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def parse(text: str) -> Document:
    """Returns the content of a YAML text.

    Raises:
        YamlError: naming every fault, or the first one if the rest cannot be read.
    """
    if found := _OTHER_BREAK.search(text):
        code = ord(found.group())
        raise YamlError(
            (
                _line_of(text, found.start()),
                f"the character U+{code:04X}; write it as \\u{code:04x}",
            )
        )
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" ({error.context})" if error.context else ""
        raise YamlError((mark.line + 1 if mark else 1, f"{error.problem}{context}")) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(
            (_line_of(text, error.position), _unprintable(int(error.character)))
        ) from None
    except (ValueError, OverflowError) as error:  # such as the escape \UFFFFFFFF
        line = loader.get_mark().line + 1 if loader else 1
        raise YamlError((line, f"this cannot be read: {error}")) from None
    walk = _Walk()
    values = None if node is None else walk.value(node, ())
    if walk.faults:
        raise YamlError(*walk.faults)
    return Document(values, walk.lines)


def _unprintable(code: int) -> str:
    return f"the character U+{code:04X}; write it as \\u{code:04x} in double quotes"


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses tags and deep nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"the tag {event.tag}; tags are not used here: leave it out",
                problem_mark=event.start_mark,
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


class _Walk:
    """Converts nodes to values, and collects lines and faults."""

    def __init__(self) -> None:
        self.lines: dict[Key, int] = {}
        self.faults: list[tuple[int, str]] = []
        self._values = 0
        self._open: set[int] = set()  # the nodes that contain the current one

    def value(self, node: yaml.Node, key: Key) -> Any:
        """Returns the value of a node.

        Raises:
            YamlError: if it has too many values, or is recursive.
        """
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > MAX_VALUES:
            raise YamlError(
                (line, f"more than {integer(MAX_VALUES)} values, with all that aliases repeat")
            )
        if id(node) in self._open:
            raise YamlError((line, "this has an alias of itself in it"))
        if len(key) > MAX_DEPTH:
            raise YamlError((line, _TOO_DEEP))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.add(id(node))
        values: Any
        if isinstance(node, yaml.SequenceNode):
            values = []
            for index, item in enumerate(node.value):
                self.lines[*key, index] = item.start_mark.line + 1
                values.append(self.value(item, (*key, index)))
        else:
            values = self._mapping(node, key)
        self._open.remove(id(node))
        return values

    def _mapping(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self.faults.append((line, "a key must be text, not a list or a mapping"))
                continue
            name = self._text(name_node)
            if name == "<<" and name_node.style is None:
                self.faults.append((line, "the merge key <<; YAML 1.2 has none: repeat the keys"))
            elif name in values:
                first = self.lines[*key, name]
                self.faults.append(
                    (line, f"the key {name!r} is given twice, first in line {first}")
                )
            else:
                self.lines[*key, name] = line
                values[name] = self.value(value_node, (*key, name))
        return values

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = self._text(node)
        if node.style is not None:  # quoted, or a block of text
            return text
        try:
            return scalar(text)
        except ValueError as error:
            self.faults.append((node.start_mark.line + 1, str(error)))
            return 0

    def _text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        if _SURROGATE.search(text):
            try:  # JSON writes a character beyond U+FFFF as two halves
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                line = node.start_mark.line + 1
                self.faults.append((line, f"half of a character (a lone surrogate) in {text!r}"))
        return text
