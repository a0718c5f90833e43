"""The provenance of a study's records: program, machines and times."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ablations.records import Record
from ablations.units import duration, integer
from modernize.text import plural

MOST_VALUES = 12  # of one property; the others are only counted
NOT_RECORDED = "not recorded"


def provenance_rows(records: Iterable[Record]) -> list[dict[str, str]]:
    """Returns a row for each value of a property, with the number of runs that have it.

    Properties that are in no record are omitted.
    """
    known = list(records)
    provenances = [record.provenance for record in known if record.provenance]
    packages = dict.fromkeys(name for p in provenances for name in _packages(p))
    properties: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "program": _program,
        "device": lambda p: _text(p.get("device")),
        "processes and threads": _processes,
        "precision": lambda p: _text(p.get("precision")),
        "Python": lambda p: _text(p.get("python")),
        **{name: lambda p, name=name: _text(_packages(p).get(name)) for name in packages},  # type: ignore[misc]
        "platform": lambda p: _text(p.get("platform")),
        "unreadable images": _bad_images,
        "changed during training": _changes,
    }
    rows = []
    for name, read in properties.items():
        counts = Counter(map(read, provenances))
        if set(counts) - {NOT_RECORDED}:
            rows += _rows(name, counts)
    rows += _times(known)
    if provenances and (silent := len(known) - len(provenances)):
        value = "ended before it was recorded"
        rows.append({"property": NOT_RECORDED, "value": value, "runs": integer(silent)})
    return rows


def _rows(name: str, counts: Counter[str]) -> list[dict[str, str]]:
    common = counts.most_common(MOST_VALUES)
    if others := counts.total() - sum(runs for _, runs in common):
        common.append((f"{plural(len(counts) - MOST_VALUES, 'other value')}", others))
    return [
        {"property": "" if place else name, "value": value, "runs": integer(runs)}
        for place, (value, runs) in enumerate(common)
    ]


def _times(records: list[Record]) -> list[dict[str, str]]:
    rows = []
    spans = [
        (float(r.provenance["started"]), float(r.provenance["ended"]))
        for r in records
        if "started" in r.provenance and "ended" in r.provenance
    ]
    if spans:
        first, last = min(start for start, _ in spans), max(end for _, end in spans)
        value = f"{utc(first)} to {utc(last)}"
        rows.append({"property": "trained", "value": value, "runs": integer(len(spans))})
    seconds = [r.seconds for r in records if r.seconds]
    if seconds:
        mean = duration(sum(seconds) / len(seconds))
        value = f"{duration(sum(seconds))} in total, {mean} per run"
        rows.append({"property": "wall time", "value": value, "runs": integer(len(seconds))})
    return rows


def utc(seconds: float) -> str:
    """Returns a time since the epoch as date and time of day, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _packages(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    packages = provenance.get("packages")
    return packages if isinstance(packages, Mapping) else {}


def _program(provenance: Mapping[str, Any]) -> str:
    commit, dirty = provenance.get("commit"), provenance.get("dirty")
    if not commit:
        return NOT_RECORDED
    return f"commit {str(commit)[:12]}{', with changes' if dirty else ''}"


def _processes(provenance: Mapping[str, Any]) -> str:
    threads = provenance.get("threads")
    if threads is None:
        return NOT_RECORDED
    processes = provenance.get("processes", 1)
    each = " each" if processes != 1 else ""
    return f"{plural(processes, 'process')}, {plural(threads, 'thread')}{each}"


def _changes(provenance: Mapping[str, Any]) -> str:
    texts = [
        f"{change.get('what')} from {change.get('from')} to {change.get('to')}, epoch "
        f"{change.get('epoch')}"
        for change in provenance.get("changes", [])
    ]
    return "; ".join(texts) or NOT_RECORDED


def _bad_images(provenance: Mapping[str, Any]) -> str:
    return _text(provenance.get("bad_images") or None)


def _text(value: object) -> str:
    return NOT_RECORDED if value is None else str(value)
