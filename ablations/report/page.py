"""What a report says: every part of it as text, rows and pictures, before it becomes a page.

:mod:`~ablations.report.page_html` and :mod:`~ablations.report.page_markdown` write it down. No
torch here.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations.analysis import comparison, comparison_text, samples
from ablations.analysis.baselines import PARENT
from ablations.analysis.summary import EMA_COLUMNS, ema_text, read_summary, summarise
from ablations.records import Status, Study
from ablations.report import page_pictures
from ablations.report.data import ReportData, Trouble, gather
from ablations.report.page_pictures import Picture
from ablations.report.provenance import moment, provenance_rows
from ablations.report.reproduction import Reproduction, reproduction
from ablations.units import choose_unit, number
from modernize.steps import REGIMES
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd

FEWEST_IN_TORNADO = 2

Rows = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Page:
    """All that a report says; what there is nothing of is empty or None.

    Attributes:
        name, about: the study's name, and what it compares.
        state: how many runs ended in which way, and when that was.
        accuracy: what the accuracies are of.
        against: what each step is compared with: a step's key, or :data:`PARENT`.
        findings, reading: what stands out, and how to read that, as ``compare`` words it.
        chart: of all steps.
        results, changes: a row a step, as texts; the columns that are flush right have the names
            in :data:`NUMBERS`.
        tornado, baseline: differences from one common baseline, and its key.
        curves, curves_note: learning curves, a picture a step, and how they are drawn.
        costs, front: accuracy against cost, and the keys on the front of each.
        troubles, trouble_count: runs that ended, and not well.
        unfinished: what is still to come.
        origins: where the records come from.
        again: how to make the study again.
        only_summary: whether single runs are not known.
    """

    name: str
    about: str
    state: str
    accuracy: str
    against: str
    findings: Sequence[str]
    reading: Sequence[str]
    chart: Picture
    results: Rows
    changes: Rows
    tornado: Picture | None
    baseline: str
    curves: Sequence[Picture]
    curves_note: str
    costs: Sequence[Picture]
    front: str
    troubles: Sequence[Trouble]
    trouble_count: int
    unfinished: str
    origins: Rows
    again: Reproduction
    only_summary: bool


NUMBERS = (
    *comparison_text.COLUMNS.numbers,
    *("change", "EMA top-1", "top-5", "parameters", "MFLOPs", "GFLOPs", "seconds", "runs"),
)
"""The columns that are flush right."""

_OF_CHANGES = ("step", "against", "verdict", "interval of change", "bootstrap", "p", "p corrected",
               "seeds needed")  # fmt: skip


def make(study: Study, *, best_epoch: bool = False, against: str = PARENT) -> Page:
    """Returns the report of a study as its files are now.

    Args:
        study: which one; nothing need have finished.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        against: what each step is compared with, as :func:`~ablations.analysis.comparison.compare`
            takes it.

    Raises:
        UsageError: for ``best_epoch`` of a study of which only a summary is kept.
        UnknownNameError: for an unknown ``against``.
        ResultsError: where a file cannot be read, or is of another version of this program.
    """
    evidence = gather(study)
    ends = evidence.ends if evidence else None
    found = samples.of_study(study, best_epoch=best_epoch, ends=ends)
    table = comparison.compare(found, against)
    summary = summarise(study, ends) if evidence else read_summary(study)
    if best_epoch:
        summary = _with_best(summary, table)
    against_itself = table["against"] == table["step"]
    bases = dict(zip(table["step"], table["against"].mask(against_itself, ""), strict=True))
    summary = summary.assign(against=summary["step"].map(bases))
    colors = page_pictures.colors(study, summary)
    tornado = tornado_table(table)
    curves = page_pictures.curves(study, evidence, colors, bases) if evidence else []
    costs, front = page_pictures.costs(summary, colors)
    return Page(
        name=study.name,
        about=_about(study),
        state=_state(study, evidence, summary),
        accuracy=found.accuracy,
        against=against,
        findings=comparison_text.findings(found, table, against),
        reading=comparison_text.how_to_read(table),
        chart=page_pictures.chart(study, summary, found),
        results=_results(summary, table),
        changes=_changes(table),
        tornado=None if tornado is None else page_pictures.tornado(tornado),
        baseline="" if tornado is None else str(tornado["against"].iloc[0]),
        curves=curves,
        curves_note=page_pictures.curves_note(evidence, bases) if evidence and curves else "",
        costs=costs,
        front=front,
        troubles=evidence.troubles if evidence else (),
        trouble_count=evidence.trouble_count if evidence else 0,
        unfinished=_unfinished(evidence),
        origins=provenance_rows(evidence.records) if evidence else [],
        again=reproduction(study),
        only_summary=evidence is None,
    )


def tornado_table(table: pd.DataFrame) -> pd.DataFrame | None:
    """Returns the rows of a comparison that differ from one baseline, which is in it; or None.

    Only where all variants but the baseline are compared with it, as in a leave-one-out study.
    """
    others = table[(table["against"] != "") & (table["against"] != table["step"])]
    bases = set(others["against"])
    if len(bases) != 1 or not bases <= set(table["step"]) or len(others) != len(table) - 1:
        return None
    measured = others[others["change"].notna()]
    return measured if len(measured) >= FEWEST_IN_TORNADO else None


def _about(study: Study) -> str:
    images, regime = study.manifest["images"], REGIMES[study.manifest["regime"]]
    trainings = dict.fromkeys(variant.training for variant in study.variants)
    recipes = [study.preset.recipes.of(t, study.manifest["regime"]) for t in trainings]
    epochs = sorted({recipe.epochs for recipe in recipes})
    seeds, steps = study.seeds, len(study.variants)
    return (
        f"{study.title}, {study.preset.title}: {plural(steps, 'network')} of the regime "
        f"{regime.start} to {regime.end}, each trained for {' or '.join(map(str, epochs))} "
        f"epoch{'s' * (epochs != [1])} from {plural(seeds, 'seed')}, on "
        f"{plural(images['train_images'], 'image')} of {images['name']}, and evaluated on "
        f"{images['val_images']:,} others."
    )


def _state(study: Study, evidence: ReportData | None, summary: pd.DataFrame) -> str:
    total = study.seeds * len(study.variants)
    if evidence is None:
        return f"{int(summary['n'].sum())} of {plural(total, 'run')} finished."
    counts = Counter(state for ends in evidence.ends.values() for state in ends.states.values())
    finished = counts.pop("finished", 0)
    others = "".join(f", {n:,} {state}" for state, n in sorted(counts.items()))
    # Of a whole study the page is always the same, to the last byte.
    when = f" As of {moment(time.time())}." if others else ""
    return f"{finished:,} of {plural(total, 'run')} finished{others}.{when}"


def _with_best(summary: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a summary with the best epoch's accuracies in place of the last one's."""
    best = table.set_index("step").loc[summary["step"]].reset_index()
    last = [name for name in EMA_COLUMNS if name in summary]
    table = summary.drop(columns=last)
    return table.assign(top1=best["top1"], top1_std=best["top1_std"], top5=float("nan"))


def _results(summary: pd.DataFrame, table: pd.DataFrame) -> Rows:
    """Returns a row a step: accuracies from the comparison, costs and states from the summary."""
    texts = {row["step"]: row for row in comparison_text.as_texts(table, every_column=True)}
    whole = (summary["status"] == Status.FINISHED).all()  # as the head of the page says
    rows = []
    unit = choose_unit(summary["flops"])
    for row in summary.to_dict("records"):
        text = texts[row["step"]]
        detail = f" ({row['detail']})" if row["detail"] else ""
        rows.append(
            {
                "step": row["step"],
                "label": row["label"],
                **{name: text[name] for name in ("n", "top-1", "deviation", "95 % interval")},
                **({"EMA top-1": ema_text(row)} if "ema_top1" in row else {}),
                "top-5": number(row["top5"], ".2f") if row["n"] else "",
                "parameters": f"{row['params']:,.0f}",
                unit.name: unit.show(row["flops"]),
                "seconds": number(row["seconds"], ",.0f"),
                "status": "" if whole else f"{row['status']}{detail}",
            }
        )
    return _filled(rows)


def _changes(table: pd.DataFrame) -> Rows:
    rows = comparison_text.as_texts(table, every_column=True)
    kept = [{name: row[name] for name in _OF_CHANGES} for row in rows if row["against"]]
    return _filled(kept)


def _filled(rows: Rows) -> Rows:
    """Returns rows without the columns that are empty in all of them."""
    names = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    return [{name: row[name] for name in names} for row in rows]


def _unfinished(evidence: ReportData | None) -> str:
    if evidence is None:
        return ""
    counts = Counter(s for ends in evidence.ends.values() for s in ends.states.values())
    parts = [f"{counts[s]:,} {words}" for s, words in _OPEN.items() if counts[s]]
    return ", ".join(parts)


_OPEN = {"running": "still being trained", "missing": "without a record yet"}
