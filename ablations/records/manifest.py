"""A study's manifest: the content of study.json, read, and merged with that of a new launch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.recipe import Preset
from ablations.records.files import ResultsError, check, read_json
from ablations.records.schemas import MANIFEST, OBJECT
from modernize.errors import RoadmapError, UsageError
from modernize.spec import NetSpec
from modernize.steps import Training, Variant

MANIFEST_FILE = "study.json"
ROADMAP = "roadmap"


def variant_to_dict(variant: Variant) -> dict[str, Any]:
    """Returns a variant as the manifest has it."""
    return {
        **{f.name: getattr(variant, f.name) for f in dataclasses.fields(variant)},
        "spec": variant.spec.to_dict(),
        "training": str(variant.training),
        "recipe": dict(variant.recipe),
    }


def variant_from_dict(values: Mapping[str, Any]) -> Variant:
    """Returns the variant of which :func:`variant_to_dict` made these values."""
    spec, training = NetSpec.from_dict(values["spec"]), Training(values["training"])
    return Variant(**{**values, "spec": spec, "training": training})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the content of study.json; None if there is none.

    Raises:
        ResultsError: if it is damaged, or another version of this program wrote it.
    """
    path = folder / MANIFEST_FILE
    advice = "delete it and launch the study again: finished runs are found again"
    manifest = read_json(path, OBJECT, advice)
    if manifest is None:
        return None
    try:
        check(manifest, MANIFEST)
        variants = [variant_from_dict(values) for values in manifest["variants"]]
        if len({variant.key for variant in variants}) < len(variants):
            raise ValueError("variants: a key occurs twice")
        preset = Preset.model_validate(manifest["preset"])
        for variant in variants:
            preset.recipes.of_variant(variant, manifest["regime"])
    except ValidationError as error:
        reason = ", ".join("preset." + ".".join(map(str, f["loc"])) for f in error.errors())
    except (ValueError, TypeError, RoadmapError) as error:
        reason = str(error)
    else:
        return manifest
    raise ResultsError(
        f"{path} is damaged, or from another version of this program ({reason}); use that "
        "version, or run the study again under another --name."
    )


def known_starts(folder: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Returns the weights that the runs of a study start from, as an earlier launch found them."""
    starts: Mapping[str, Sequence[Mapping[str, Any]]] = (read_manifest(folder) or {}).get(
        "starts", {}
    )
    return starts


def merge(there: Mapping[str, Any], requested: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the manifest of a study that a launch extends by variants and seeds.

    Args:
        there: the manifest of the study as it is.
        requested: that of the launch.
        folder: of the study, for messages.

    Raises:
        UsageError: if their conditions differ; each difference is named.
    """
    if conflicts := [*_conflicts(there, requested)]:
        raise UsageError(
            f"{folder} has a study with other conditions:\n  "
            + "\n  ".join(conflicts)
            + "\nGive this one another name with --name, or remove that folder."
        )
    variants = {v["key"]: v for manifest in (there, requested) for v in manifest["variants"]}
    # Variants that the study has, but no longer lists, come last.
    order = list(dict.fromkeys([*requested["order"], *variants]))
    manifest = {
        **requested,
        "variants": [variants[key] for key in order if key in variants],
        "order": order,
        "seeds": max(requested["seeds"], there["seeds"]),
    }
    for name in ("custom_costs", "parents"):
        if values := {**there.get(name, {}), **requested.get(name, {})}:
            manifest[name] = values
    starts = {**there.get("starts", {}), **requested.get("starts", {})}
    for key, known in there.get("starts", {}).items():
        starts[key] = [*starts[key], *known[len(starts[key]) :]]
    if starts:
        manifest["starts"] = starts
    if sections := [*requested.get("sections", []), *there.get("sections", [])]:
        manifest["sections"] = list(dict.fromkeys(sections))
    files, files_before = requested.get("files", {}), there.get("files", {})
    if files or files_before:  # the first times stay until contents were compared
        manifest["files"] = files if "contents" in files else {**files, **files_before}
    return manifest


def _conflicts(there: Mapping[str, Any], requested: Mapping[str, Any]) -> Iterator[str]:
    """Yields the conditions in which two manifests differ, a line for each."""
    yield from _differences("", {"study": there.get("study", ROADMAP)}, requested)
    yield from _differences("preset.", _unnamed(there["preset"]), requested["preset"])
    yield from _differences("", {name: there[name] for name in ("regime", "images")}, requested)
    before = {v["key"]: _unnamed(v) for v in there["variants"]}
    for variant in requested["variants"]:
        key = variant["key"]
        yield from _differences(f"step {key}.", before.get(key, {}), variant)
    starts = requested.get("starts", {})
    for key, known in there.get("starts", {}).items():
        for seed, (was, now) in enumerate(zip(known, starts.get(key, known), strict=False)):
            if was["digest"] != now["digest"]:
                yield (
                    f"step {key}, seed {seed}: it starts from {now['path']}, whose weights "
                    "are not those that the study started from"
                )
    files, files_before = requested.get("files", {}), there.get("files", {})
    if {"contents"} <= files.keys() & files_before.keys():
        contents = {"contents": files_before["contents"]}
        yield from _differences(
            "the images' files have the same names and sizes, but ", contents, files
        )


def _unnamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a variant or a preset without its titles, which may change."""
    return {name: value for name, value in values.items() if name not in ("title", "section")}


def differing(
    there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the name, as ``recipe.epochs``, and both values, if they differ in two objects."""
    for name, value in there.items():
        other = here.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            nested = {**dict.fromkeys(other), **value}
            yield from differing(nested, other, f"{prefix}{name}.")
        elif value != other:
            yield f"{prefix}{name}", value, other


def _differences(prefix: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {value!r} there, {other!r} here"
        for name, value, other in differing(there, here, prefix)
    ]
