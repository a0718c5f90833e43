"""Variants that differ in the recipe: its parts, their texts, and the runs that they make.

Refreshed by ``pytest tests/test_recipe_variants.py --refresh-golden``.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call

from ablations.commands.study_request import build_request
from ablations.launching import experiment
from ablations.launching.experiment import Experiment
from ablations.recipe import Recipe, load_preset, preset_names
from ablations.recipe_parts import PARTS
from ablations.records import Study
from ablations.report.reproduction import reproduction
from ablations.studies.study_file import read_study
from ablations.studies.variants import ResolvedStudy, resolve_study
from modernize.errors import UsageError
from modernize.steps import Training

MINE = """
title: Mine
base: {until: ln}
variants:
  - {key: a, recipe: {mixup: 0.5, drop_path: 0.2}}
  - {key: b, recipe: {mixup: 0.5}, fields: {kernel_size: 3}}
"""


def of_preset(name: str) -> tuple[ResolvedStudy, dict[str, Recipe]]:
    preset = load_preset(name)
    study = resolve_study(read_study("recipe"), preset.regime, preset.recipes)
    pairs = (preset.recipes.of_variant(v, preset.regime) for v in study.variants)
    return study, dict(zip((v.key for v in study.variants), (r for _, r in pairs), strict=True))


def has_two_recipes(name: str) -> bool:
    """Presets of fine-tuning have one recipe for all steps."""
    recipes = load_preset(name).recipes
    return recipes.classic != recipes.enhanced


def text_of(name: str) -> str:
    """The first recipe in full, then what changes from each variant to the next."""
    study, recipes = of_preset(name)
    lines = [f"The study `recipe` with the preset {name}, regime {study.regime}."]
    for variant in study.variants:
        values = recipes[variant.key].model_dump()
        there = recipes[variant.parent].model_dump() if variant.parent else {}
        lines += ["", f"{variant.key}: {variant.title} ({variant.recipe_name})"]
        lines += [f"  from {variant.parent}"] if variant.parent else []
        changed = {key: value for key, value in values.items() if there.get(key, "") != value}
        lines += [f"  {key}: {value}" for key, value in changed.items()]
    return "\n".join([*lines, "", *(f"omitted {key}: {why}" for key, why in study.omitted), ""])


@pytest.mark.parametrize("name", ["nano-recipe", "imagenet"])
def test_every_recipe_is_as_written_down(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"recipe-variants/{name}", text_of(name))


def test_each_key_of_a_recipe_is_in_one_part() -> None:
    keys = [key for part in PARTS for key in part.keys]
    assert sorted(keys) == sorted(Recipe.model_fields)


@pytest.mark.parametrize("name", [n for n in preset_names() if has_two_recipes(n)])
def test_the_parts_lead_from_the_classic_recipe_to_the_enhanced_one(name: str) -> None:
    preset, (study, recipes) = load_preset(name), of_preset(name)
    classic, enhanced = (preset.recipes.of(training, preset.regime) for training in Training)
    first, *path = [v for v in study.variants if not v.key.startswith("no-")]
    assert recipes[first.key] == classic
    assert path[-1].key == "recipe"
    assert recipes["recipe"] == enhanced
    changed = []
    for variant in path:  # a part changes its own keys only, and no key twice
        there, here = recipes[str(variant.parent)], recipes[variant.key]
        keys = {key for key in Recipe.model_fields if getattr(there, key) != getattr(here, key)}
        parts = {part.key for part in PARTS if keys & {*part.keys}}
        assert parts == {variant.key} or (variant.key == "recipe" and len(parts) == 1)
        changed += [*keys]
    differ = [key for key in Recipe.model_fields if getattr(classic, key) != getattr(enhanced, key)]
    assert sorted(changed) == sorted(differ)
    assert len({v.spec for v in study.variants}) == 1

    without = {v.key.removeprefix("no-"): v for v in study.variants if v.key.startswith("no-")}
    for part in PARTS:
        if part.key in without:
            values = {key: getattr(classic, key) for key in part.keys}
            assert recipes[f"no-{part.key}"] == enhanced.changed(values)
            assert without[part.key].parent == "recipe"
        else:  # equal in both recipes, or the last step before the enhanced recipe
            assert {part.key, f"no-{part.key}"} & {key for key, _ in study.omitted}


def test_the_small_preset_has_the_papers_parts_and_differs_in_no_other_way() -> None:
    _, small = of_preset("nano-recipe")
    _, paper = of_preset("imagenet")
    ours, theirs = small["recipe"], paper["recipe"]
    for key in ("rand_augment", "mixup", "cutmix", "random_erasing", "label_smoothing",
                "drop_path", "optimizer", "learning_rate", "betas", "weight_decay"):  # fmt: skip
        assert getattr(ours, key) == getattr(theirs, key), key
    assert ours.ema_decay
    assert ours.epochs / small["resnet"].epochs == theirs.epochs / paper["resnet"].epochs


def designed(folder: Path, images: Path, text: str, *settings: str) -> Experiment:
    path = folder / "mine.yaml"
    path.write_text(text)
    asked = build_request(
        study=str(path), first=None, last=None, only=[], seeds=1, preset=None, regime=None,
        data=str(images), settings=settings,
    )  # fmt: skip
    return experiment.design(
        folder / "mine", asked.preset, asked.resolved, asked.variants, asked.seeds
    )


def test_a_changed_recipe_is_part_of_the_run_and_of_the_study(
    tmp_path: Path, few_images: Path
) -> None:
    first = designed(tmp_path, few_images, MINE)
    base, a, b = (p.run for p in first.planned)
    assert a.spec == base.spec.replace(drop_path=0.2)
    assert a.recipe == base.recipe.changed({"mixup": 0.5, "drop_path": 0.2})
    assert (b.spec.kernel_size, b.recipe.mixup) == (3, 0.5)
    assert len({run.name.rpartition("-")[2] for run in (base, a, b)}) == 3
    first.study.write()
    again = Study.open(tmp_path / "mine")
    assert [run.name for _, run, _ in again.runs()] == [p.run.name for p in first.planned]
    assert "--study mine.yaml" in reproduction(again).command

    with pytest.raises(UsageError, match=r"step a\.recipe\.mixup: 0\.5 there, 0\.7 here"):
        designed(tmp_path, few_images, MINE.replace("mixup: 0.5, ", "mixup: 0.7, "))
    with pytest.raises(UsageError, match=r"step b\.recipe\.flip: None there, 0\.0 here"):
        designed(tmp_path, few_images, MINE.replace("{mixup: 0.5}", "{mixup: 0.5, flip: 0}"))
    # A value of the command line is the preset's; the variant's own values stay.
    (tmp_path / "other").mkdir()
    other = designed(tmp_path / "other", few_images, MINE, "mixup=0.2", "epochs=3")
    assert [p.run.recipe.mixup for p in other.planned] == [0.2, 0.5, 0.5]
    assert {p.run.recipe.epochs for p in other.planned} == {3}


def test_the_shipped_study_has_its_command(tmp_path: Path, few_images: Path) -> None:
    asked = build_request(
        study="recipe", first=None, last=None, only=[], seeds=2, preset=None, regime=None,
        data=str(few_images), settings=(),
    )  # fmt: skip
    assert asked.folder == "recipe"
    made = experiment.design(
        tmp_path / "recipe", asked.preset, asked.resolved, asked.variants, asked.seeds
    )
    words = reproduction(made.study).command.replace("\\\n", " ").split()
    assert words[words.index("--preset") + 1] == "nano-recipe"
    assert words[words.index("--study") + 1] == "recipe"
    assert "--only" not in words


@pytest.mark.parametrize("changes", [{"mixup": -1}, {"mixupp": 1}, {"epochs": 1}])
def test_a_damaged_recipe_in_a_study_is_named(
    changes: dict[str, object], tmp_path: Path, few_images: Path
) -> None:
    first = designed(tmp_path, few_images, MINE)
    first.study.write()
    path = tmp_path / "mine" / "study.json"
    values = json.loads(path.read_text())
    values["variants"][1]["recipe"] = changes
    path.write_text(json.dumps(values))
    with pytest.raises(Exception, match=r"study\.json is damaged.*(mixup|epochs)") as error:
        Study.open(tmp_path / "mine")
    assert error.type.__name__ == "ResultsError"


@pytest.mark.integration
def test_recipe_variants_are_trained_compared_and_reported(
    tmp_path: Path, launch: Callable[..., str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    asked = ["--study", str(path), "--name", "mine"]
    assert "enhanced, mixup 0.5" in launch("plan", "--study", str(path))
    launch(*asked)
    study = Study.open(tmp_path / "mine")
    weights = {}
    for variant, run, folder in study.runs():
        config = json.loads((folder.path / "config.json").read_text())
        assert config["recipe"] == json.loads(run.recipe.model_dump_json())
        record = folder.read_record()
        assert record is not None
        weights[variant.key] = record.metrics["top1"]
    assert len(weights) == 3
    assert "a" in call("compare", "mine", "--results", tmp_path)
    call("report", "mine", "--results", tmp_path)
    report = (tmp_path / "mine" / "report.md").read_text(encoding="utf-8")
    assert "| a | enhanced | mixup 0.5, drop_path 0.2 |" in report
