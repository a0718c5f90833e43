"""Study files: what a file may say, and what is refused with why."""

import json
from pathlib import Path

import pytest

from ablations.recipe import Recipe, load_preset
from ablations.studies.selection import select_variants
from ablations.studies.study_file import read_study
from ablations.studies.variants import ResolvedStudy, resolve_study
from modernize.errors import CustomLayersError, UnknownNameError, UsageError
from modernize.steps import REGIMES, STEPS, Training, apply_steps, spec_of

RECIPES = load_preset("imagenet").recipes
BASE = "title: T\nbase: {until: downsample}\nvariants:\n"


def written(folder: Path, text: str, regime: str = "nano") -> ResolvedStudy:
    path = folder / "mine.yaml"
    path.write_text(text)
    return resolve_study(read_study(str(path)), regime, RECIPES)


# -- what a file may say -------------------------------------------------------------------------


def test_a_variant_leaves_out_adds_reorders_and_sets_fields(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        """
title: T
base: {until: kernel-7}
steps:
  tiny-kernel: {title: a tiny kernel, changes: {kernel_size: 1}}
  wide: {title: wider, changes: {width: {nano: 32, resnet50: 128}}, training: classic}
variants:
  - {key: a, without: [kernel-7, patchify]}
  - {key: b, with: [kernel-11, gelu]}
  - {key: c, order: [resnet, recipe, stage-ratio, patchify, depthwise, width, inverted, move-up,
                     kernel-7, kernel-5]}
  - {key: d, title: "{end}, dense", section: Mine, fields: {spatial_conv: dense, layer_scale: 1e-6}}
  - {key: e, steps: [patchify, tiny-kernel]}
  - {key: f, with: [wide], without: [gelu]}
""".replace(", without: [gelu]}", "}"),
    )
    base, a, b, c, d, e, f = (v.spec for v in study.variants)
    assert base == spec_of("kernel-7", "nano")
    assert a == base.replace(kernel_size=5, stem="resnet")
    assert b == base.replace(kernel_size=11, activation="gelu")
    assert c == base.replace(kernel_size=5)
    assert d == base.replace(spatial_conv="dense", layer_scale=1e-6)
    assert e == spec_of("resnet", "nano", stem="patchify", kernel_size=1)
    assert f == base.replace(width=32)
    assert [v.training for v in study.variants[-2:]] == [Training.CLASSIC] * 2
    assert (study.variants[4].title, study.variants[4].section) == ("ConvNeXt-nano, dense", "Mine")


def test_each_form_takes_steps_of_ones_own(tmp_path: Path) -> None:
    own = "steps:\n  mine: {title: mine, changes: {kernel_size: 9, width: 48}}\n"
    whole = "base: {steps: [resnet, recipe, gelu, mine], fields: {layer_scale: 0.1}}\n"
    study = written(tmp_path, f"title: T\n{own}{whole}variants:\n- without: each\n")
    assert [v.key for v in study.variants] == ["base", "no-recipe", "no-gelu", "no-mine"]
    path = "variants:\n- path: {steps: [resnet, recipe, mine, patchify]}\n"
    study = written(tmp_path, f"title: T\n{own}{path}")
    assert [(v.key, v.parent) for v in study.variants] == [
        ("resnet", None), ("recipe", "resnet"), ("mine", "recipe"), ("patchify", "mine"),
    ]  # fmt: skip
    assert study.variants[-1].spec.width == 48


def test_a_sweep_of_two_fields_is_every_combination_but_the_base(tmp_path: Path) -> None:
    study = written(tmp_path, BASE + "  - sweep: {kernel_size: [5, 7], norm: [batch, layer]}\n")
    assert [v.key for v in study.variants[1:]] == [
        "kernel-size-5.norm-batch", "kernel-size-5.norm-layer", "kernel-size-7.norm-batch",
    ]  # fmt: skip
    assert [key for key, _ in study.omitted] == ["kernel-size-7.norm-layer"]


# -- what is refused -----------------------------------------------------------------------------


def refusal(folder: Path, text: str, regime: str = "nano") -> str:
    with pytest.raises(UsageError) as error:
        written(folder, text, regime)
    return str(error.value)


def check_faults(message: str, *faults: tuple[int | str, ...]) -> None:
    """Checks that a message has a line for each fault: line number, key, and names or values."""
    head, *lines = message.splitlines()
    assert f"'mine' has {len(faults)} fault" in head
    assert len(lines) == len(faults)
    for number, key, *words in faults:
        [line] = [x for x in lines if x.startswith(f"  mine.yaml, line {number}: {key}: ")]
        assert [word for word in words if str(word) not in line] == [], line


def test_all_faults_of_form_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        """title: T
sedes: 3
seeds: 0
base: {until: ln, steps: each}
steps:
  mine: {title: mine, chnages: {}}
variants:
  - {key: a/b, without: [gelu]}
  - {key: b, with: gelu}
  - {key: c}
  - {without: each, fields: {width: 3}}
  - {fields: {width: 3}}
  - {sweep: {width: [3]}, key: d}
  - {key: e, path: {untli: ln}}
""",
    )
    check_faults(
        message,
        (2, "sedes", "'sedes'", "'seeds'"),
        (3, "seeds", "0"),
        (4, "base", "until", "each"),
        (6, "steps.mine.chnages", "'chnages'", "'changes'"),
        (8, "variants.0.key"),
        (9, "variants.1.with", "'each'", "'gelu'"),
        (10, "variants.2", "steps", "without"),
        (11, "variants.3", "without"),
        (12, "variants.4", "key"),
        (13, "variants.5", "sweep"),
        (14, "variants.6.path.untli", "'untli'", "'until'"),
    )


def test_all_impossible_variants_are_named_at_once_with_the_reason(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        """title: T
base: {until: downsample, key: final}
steps:
  gelu: {title: mine, changes: {width: 8}}
  even: {title: mine, changes: {kernel_size: 4}}
  large: {title: mine, changes: {width: {resnet50: 8}}}
variants:
  - {key: a, fields: {kernel_size: 7}}
  - {key: b, without: [kernel-5]}
  - {key: c, fields: {kernel_size: 6}}
  - {key: d, fields: {kernal_size: 5}}
  - {key: e, without: [kernel-9]}
  - {key: f, with: [gelus]}
  - {key: g, with: [gelu]}
  - {key: h, order: [resnet, gelu]}
  - {key: i, fields: {num_classes: 7}}
  - {key: j, fields: {drop_path: 0.5}}
  - {key: k, fields: {activation: star-relu}}
  - {key: l, without: [ln]}
  - {key: l, without: [width]}
  - {key: m, fields: {norm: batch}}
  - sweep: {kernel_size: [3, 4]}
  - sweep: {kernel_size: 3}
  - path: {steps: [resnet, resnet]}
  - sweep: {}
  - sweep: {width: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], kernel_size: &k [1, 3, 5, 7, 9, 11, 13, 15],
            in_channels: *k, num_classes: *k, layer_scale: *k}
""",
    )
    check_faults(
        message,
        (4, "steps.gelu", "key"),
        (5, "steps.even.changes", "kernel_size is 4"),
        (6, "steps.large.changes", "width", "'nano'"),
        (8, "variants.0", "a: ", "changes nothing", "'final'"),
        (9, "variants.1", "b: ", "changes nothing"),
        (10, "variants.2", "c: ", "kernel_size is 6", "odd"),
        (11, "variants.3", "d: ", "'kernal_size'", "'kernel_size'"),
        (12, "variants.4", "e: ", "'kernel-9'"),
        (13, "variants.5", "f: ", "'gelus'", "'gelu'"),
        (14, "variants.6", "g: ", "'gelu'"),
        (15, "variants.7", "h: ", "order", "recipe"),
        (16, "variants.8", "i: ", "num_classes", "images"),
        (17, "variants.9", "j: ", "drop_path", "recipe:"),
        (18, "variants.10", "k: ", "'star-relu'"),
        (20, "variants.12", "l: ", "'l'"),
        (21, "variants.13", "m: ", "changes nothing", "'l'"),
        (22, "variants.14", "kernel_size is 4"),
        (23, "variants.15", "kernel_size is 3"),
        (24, "variants.16", "'resnet'"),
        (25, "variants.17", "sweep"),
        (26, "variants.18", "40,960", "10,000"),
    )
    assert "has 21 faults" in message


def test_an_impossible_base_is_said_once(tmp_path: Path) -> None:
    text = "title: T\nbase: {until: lm}\nvariants:\n- without: each\n"
    message = refusal(tmp_path, text)
    assert "1 fault:" in message
    assert "line 2: base: unknown step 'lm'. Did you mean 'ln'?" in message
    assert "needs a base" in refusal(tmp_path, "title: T\nvariants:\n- without: each\n")


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'leave-one-in'.*Did you mean 'leave-one-out'"):
        read_study("leave-one-in")
    with pytest.raises(UsageError, match="is not a study: it must be a mapping with title"):
        written(tmp_path, "- 1\n")
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        written(tmp_path, "a: [\n")
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        written(tmp_path, "title: !!python/object/apply:os.getcwd []\n")


def test_faults_of_layers(tmp_path: Path) -> None:
    text = BASE + "  - {key: a, fields: {activation: star}}\nlayers: mine.py\n"
    with pytest.raises(CustomLayersError, match=r"mine.py cannot be read"):
        written(tmp_path, text)
    (tmp_path / "mine.py").write_text("from torch import nn\nACTIVATIONS = {'stare': nn.GELU}\n")
    message = refusal(tmp_path, text)
    assert "line 4: variants.0: a: unknown activation 'star'. Did you mean 'stare'?" in message
    study = written(tmp_path, text.replace("star}", "stare}"))
    assert list(study.variants[1].spec.custom_layers) == ["activation"]
    assert not study.variants[0].spec.custom_layers


# -- recipes -------------------------------------------------------------------------------------


def recipes_of(study: ResolvedStudy) -> dict[str, Recipe]:
    return {v.key: RECIPES.of_variant(v, study.regime)[1] for v in study.variants}


def test_a_variant_changes_the_recipe_alone_or_with_the_network(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        """
title: T
base: {until: downsample, recipe: {epochs: 100, random_erasing: 0}, fields: {kernel_size: 9}}
steps:
  sgd:
    title: SGD
    recipe: {optimizer: sgd, momentum: 0.9, betas: null, epsilon: null, learning_rate: 1}
  long: {title: long, changes: {norm: batch}, recipe: {epochs: {nano: 70, resnet50: 600}}}
variants:
  - {key: a, recipe: {mixup: 0, drop_path: {nano: 0.2}}}
  - {key: b, recipe: {cutmix: 0}, fields: {width: 8}, without: [gelu]}
  - {key: c, with: [sgd], recipe: {learning_rate: 2.0}}
  - {key: d, with: [long]}
  - {key: e, steps: [resnet, sgd, recipe]}
  - path: {steps: [resnet, recipe, sgd, long]}
""",
    )
    by_key, recipes = {v.key: v for v in study.variants}, recipes_of(study)
    enhanced = RECIPES.of(Training.ENHANCED, "nano")
    assert recipes["base"] == enhanced.changed({"epochs": 100, "random_erasing": 0.0})
    assert recipes["a"] == recipes["base"].changed({"mixup": 0.0, "drop_path": 0.2})
    assert by_key["a"].spec == by_key["base"].spec == spec_of("downsample", "nano", kernel_size=9)
    assert by_key["b"].spec == by_key["base"].spec.replace(width=8, activation="relu")
    assert recipes["b"] == recipes["base"].changed({"cutmix": 0.0})
    sgd = {"optimizer": "sgd", "momentum": 0.9, "betas": None, "epsilon": None}
    assert recipes["c"] == recipes["base"].changed({**sgd, "learning_rate": 2.0})
    assert recipes["d"] == recipes["base"]  # the base's own values come after all steps
    assert by_key["d"].spec == by_key["base"].spec.replace(norm="batch")
    assert recipes["e"] == recipes["base"]  # the step `recipe` sets every key
    assert recipes["sgd"] == enhanced.changed({**sgd, "learning_rate": 1.0})
    assert recipes["long"] == recipes["sgd"].changed({"epochs": 70})
    assert by_key["long"].parent == "sgd"
    assert recipes["resnet"] == RECIPES.of(Training.CLASSIC, "nano")


def test_a_sweep_combines_fields_and_keys_of_the_recipe(tmp_path: Path) -> None:
    text = BASE + "  - sweep: {kernel_size: [5, 7], learning_rate: [1e-3, 4e-3], drop_path: [0.1]}"
    study = written(tmp_path, text, "resnet50")
    keys = [v.key for v in study.variants]
    assert keys == [
        "base",
        "kernel-size-5.learning-rate-0.001.drop-path-0.1",
        "kernel-size-5.learning-rate-0.004.drop-path-0.1",
        "kernel-size-7.learning-rate-0.001.drop-path-0.1",
    ]
    assert [key for key, _ in study.omitted] == ["kernel-size-7.learning-rate-0.004.drop-path-0.1"]
    assert [v.recipe_name for v in study.variants] == [
        "enhanced", "enhanced, learning_rate 0.001", "enhanced", "enhanced, learning_rate 0.001",
    ]  # fmt: skip
    assert study.variants[1].spec.kernel_size == 5


def test_two_ways_to_the_same_recipe_are_one_variant(tmp_path: Path) -> None:
    by_hand = ", ".join(f"{k}: {v}" for k, v in classic_as_yaml().items())
    message = refusal(
        tmp_path,
        BASE
        + "  - {key: a, without: [recipe]}\n"
        + f"  - {{key: b, recipe: {{{by_hand}}}}}\n"
        + "  - {key: c, recipe: {drop_path: 0.0}}\n",
    )
    check_faults(message, (5, "variants.1", "b: ", "'a'"), (6, "variants.2", "c: ", "'base'"))


def classic_as_yaml() -> dict[str, str]:
    values = RECIPES.of(Training.CLASSIC, "nano").model_dump(mode="json")
    return {key: json.dumps(value) for key, value in values.items()}


def test_faults_of_recipes_are_named_with_their_lines(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        """title: T
base: {until: downsample}
steps:
  mine: {title: mine, recipe: {mixup: -1}}
  some: {title: some, recipe: {epochs: {resnet50: 30}}}
  mixup: {title: taken}
variants:
  - {key: a, recipe: {mixupp: 0.1}}
  - key: b
    recipe:
      epochs: 0
      drop_path: 1.5
  - {key: c, recipe: {epochs: 5}}
  - {key: d, recipe: {optimizer: sgd}}
  - sweep: {learning_rate: [0.1, -0.1]}
  - sweep: {learning_rates: [0.1]}
  - {key: e, recipe: {mixup: {resnet50: 0.1}}}
  - {key: f, recipe: {batch_size: 100}}
  - {key: g, recipe: {}}
  - sweep: {learning_rate: [0.00123456789], weight_decay: [0.0123456789], warmup_epochs: [1.234567],
            label_smoothing: [0.123456789], random_erasing: [0.123456789]}
""",
    )
    check_faults(
        message,
        (4, "steps.mine.recipe.mixup", "-1"),
        (5, "steps.some.recipe", "epochs", "'nano'"),
        (6, "steps.mixup", "key"),
        (8, "variants.0.recipe.mixupp", "a: ", "'mixupp'", "'mixup'"),
        (11, "variants.1.recipe.epochs", "b: ", "0"),
        (12, "variants.1.recipe.drop_path", "b: ", "1.5"),
        (13, "variants.2", "c: ", "warmup_epochs 20", "epochs 5"),
        (14, "variants.3", "d: ", "sgd", "momentum", "betas"),
        (15, "variants.4.sweep.learning_rate", "-0.1"),
        (16, "variants.5", "'learning_rates'", "'learning_rate'"),
        (17, "variants.6", "e: ", "mixup", "'nano'"),
        (18, "variants.7", "f: ", "batch_size 100", "micro_batch_size 128"),
        (19, "variants.8", "g: ", "'base'"),
        (20, "variants.9", "'learning-rate-0.00123456789.weight-decay-", "120"),
    )


# -- a road that goes on -------------------------------------------------------------------------

FURTHER = """
steps:
  wide: {title: wider, changes: {width: 32}}
  aside: {title: kernel size 3, changes: {kernel_size: 3}, adopted: false}
  long: {title: more epochs, recipe: {epochs: 400}}
"""


@pytest.mark.parametrize("regime", REGIMES)
def test_the_roadmap_goes_on_with_further_steps(regime: str, tmp_path: Path) -> None:
    study = written(tmp_path, f"title: T\nextends: roadmap{FURTHER}", regime)
    assert study.variants[: len(STEPS)] == apply_steps(STEPS, REGIMES[regime])
    end, further = STEPS[-1].key, study.variants[len(STEPS) :]
    assert [(v.key, v.parent) for v in further] == [
        ("wide", end), ("aside", "wide"), ("long", "wide"),
    ]  # fmt: skip
    wide = spec_of(end, regime, width=32)
    assert [v.spec for v in further] == [wide, wide.replace(kernel_size=3), wide]
    assert further[2].recipe == {"epochs": 400}
    assert select_variants(study.variants, last="wide") == study.variants[: len(STEPS) + 1]
    same = f"title: T{FURTHER}variants:\n- path: {{until: {end}, steps: [wide, aside, long]}}"
    assert written(tmp_path, same, regime).variants == study.variants


def test_a_road_that_goes_on_may_have_a_base_and_variants(tmp_path: Path) -> None:
    text = f"title: T\nextends: roadmap{FURTHER}base: {{until: ln, key: b, title: base}}\n"
    study = written(tmp_path, text + "variants:\n- {key: c, fields: {width: 8}}\n")
    keys = [v.key for v in study.variants]
    assert keys == [
        *(s.key if s.key != "ln" else "b" for s in STEPS),
        *("wide", "aside", "long"),
        "c",
    ]
    by_key = {v.key: v for v in study.variants}
    assert (by_key["b"].parent, by_key["b"].title) == ("fewer-norms", "BN to LN (base)")
    assert by_key["downsample"].parent == by_key["c"].parent == "b"
    assert study.reference == by_key["b"]


def test_faults_of_a_road_that_goes_on(tmp_path: Path) -> None:
    text = "title: T\nextends: {}\nsteps:\n  mine: {{title: m, changes: {{kernel_size: {}}}}}\n"
    check_faults(refusal(tmp_path, text.format("order", 9)), (2, "extends", "'roadmap'", "'order'"))
    check_faults(refusal(tmp_path, text.format("roadmap", 4)), (4, "steps.mine.changes", "4"))
    message = refusal(tmp_path, text.format("roadmap", 7))
    check_faults(message, (2, "extends", "'mine'", "kernel_size", "7"))


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("variants: roadmap", "variants", ["'roadmap'", "[{path: {", "extends: roadmap"]),
        ("variants: [roadmap]", "variants.0", ["'roadmap'", "{path: {until: "]),
        ("variants: [{path: each}]", "variants.0.path", ["'each'", "{until: ", "{steps: ["]),
        ("variants: [{path: [ln]}]", "variants.0.path", ["['ln']", "{until: "]),
        ("variants: [{key: a, steps: ln}]", "variants.0.steps", ["'ln'", "[resnet, "]),
        ("variants: [{key: a, recipe: m}]", "variants.0.recipe", ["'m'", "{mixup: "]),
        ("variants: [{key: a, fields: [m]}]", "variants.0.fields", ["['m']", "{width: "]),
        ("steps: [silu]", "steps", ["['silu']", "{kernel-13: {title: "]),
        ("steps: {silu: silu}", "steps.silu", ["'silu'", "{title: ", "changes: {"]),
        ("base: ln", "base", ["'ln'", "{until: "]),
    ],
)  # fmt: skip
def test_a_wrong_form_is_answered_with_the_right_one(
    text: str, key: str, words: list[str], tmp_path: Path
) -> None:
    message = refusal(tmp_path, f"title: T\n{text}\n")
    [line] = [x for x in message.splitlines() if x.startswith(f"  mine.yaml, line 2: {key}: ")]
    assert [word for word in words if word not in line] == [], line
