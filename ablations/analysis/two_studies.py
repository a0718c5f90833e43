"""Two studies compared step by step, with everything in which they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ablations import tables
from ablations.analysis import agreement_text
from ablations.analysis.accuracies import Accuracies, of_study
from ablations.analysis.comparison import compare_studies
from ablations.analysis.comparison_text import COLUMNS, as_texts, as_values, for_paper, notes
from ablations.records import Study, differing
from ablations.units import integer, mean_and_std
from modernize.errors import UsageError

_MOST_SETTINGS = 12  # that differ and are listed; of more, only the number is given


def as_report(before: Study, after: Study, *, best_epoch: bool = False) -> tables.Report:
    """Returns the difference of each step that two studies have: ``after`` less ``before``.

    If they have different metrics, it is how far the changes of one follow those of the other.

    Runs are paired by seed if both studies have the same images: then a seed gives the same order
    of images, and for the same network the same initial weights.

    Args:
        before: the study to compare with.
        after: the study that is compared.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.

    Raises:
        UsageError: if they have no step in common, or one has no runs.
    """
    names = _names(before, after)
    first, second = (
        dataclasses.replace(of_study(study, best_epoch=best_epoch), name=name)
        for study, name in zip((before, after), names, strict=True)
    )
    if first.metric != second.metric:
        return agreement_text.of_studies(first, second)
    paired = before.manifest["images"] == after.manifest["images"]
    table = compare_studies(first, second, paired=paired)
    if table.empty:
        raise UsageError(
            f"{names[0]} and {names[1]} have no step in common. {_steps_of(first)} "
            f"{_steps_of(second)}"
        )
    metric = second.metric
    before_column = f"{metric.label} in {names[0]}"
    texts = [
        {
            "step": row["step"],
            "n": f"{integer(count)}, {row['n']}" if count == count else row["n"],
            before_column: mean_and_std(mean, std),
            metric.label: row[metric.label],
            **{name: cell for name, cell in row.items() if name not in ("step", "n", "baseline")},
        }
        for row, count, mean, std in zip(
            as_texts(table),
            table["baseline_n"].astype(float),
            table[f"baseline_{metric.key}"],
            table["baseline_std"],
            strict=True,
        )
    ]
    columns = dataclasses.replace(COLUMNS, numbers=(*COLUMNS.numbers, before_column))
    title = f"{names[1]} less {names[0]}: {metric.in_unit}, {second.epoch}; {metric.direction}"
    lines = [
        *_what_differs(before, after, first, second),
        "Paired by seed: a seed gives both studies the same order of images and, if the network is "
        "the same, the same initial weights."
        if paired
        else "Not paired: the studies have different images, so a seed has no common meaning.",
        *notes(second, table, names[0]),
    ]
    return tables.Report(as_values(table), texts, columns, title, lines, for_paper(table, texts))


def _names(before: Study, after: Study) -> tuple[str, str]:
    """Returns the names of two studies; their folders if the names are equal."""
    if before.name != after.name:
        return before.name, after.name
    return str(before.folder), str(after.folder)


def _steps_of(accuracies: Accuracies) -> str:
    return f"{accuracies.name} has {', '.join(row.key for row in accuracies.rows)}."


def _what_differs(before: Study, after: Study, first: Accuracies, second: Accuracies) -> list[str]:
    """Returns in which steps, images and settings two studies differ."""
    keys = [row.key for row in first.rows], [row.key for row in second.rows]
    lines = [
        f"Only in {name}: {', '.join(only)}."
        for name, ours, others in ((first.name, *keys), (second.name, *reversed(keys)))
        if (only := [key for key in ours if key not in others])
    ]
    settings = _settings(before, after)
    if images := [text for text in settings if text.startswith("images.")]:
        lines.append(
            f"DIFFERENT IMAGES ({', '.join(images)}): an accuracy on other images is another "
            "measurement. The differences are of images and settings together."
        )
    common = sum(key in keys[1] for key in keys[0])
    others = [
        f"{text} ({', '.join(steps)})" if len(steps) < common else text
        for text, steps in settings.items()
        if text not in images
    ]
    shown = "; ".join(others[:_MOST_SETTINGS]) or "none"
    more = f"; and {len(others) - _MOST_SETTINGS} more" if len(others) > _MOST_SETTINGS else ""
    return [*lines, f"Settings that differ ({first.name}, {second.name}): {shown}{more}."]


def _settings(before: Study, after: Study) -> Mapping[str, list[str]]:
    """Returns each setting that differs, with both values -> the steps in which it does."""
    found: dict[str, list[str]] = {}
    theirs = {variant.key: variant for variant in before.variants}
    data = [{"data": study.preset.data.model_dump()} for study in (before, after)]
    for variant in after.variants:
        if variant.key in theirs:
            ours = before.run(theirs[variant.key], 0).content() | data[0]
            for name, *values in differing(ours, after.run(variant, 0).content() | data[1]):
                found.setdefault(f"{name}: {values[0]}, {values[1]}", []).append(variant.key)
    return found
