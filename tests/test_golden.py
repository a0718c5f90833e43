"""Every network of every regime as text, so that a change of any of them shows in a diff.

When a change is meant, refresh the texts and read the diff before committing it:

    pytest tests/test_golden.py --refresh-golden
"""

import difflib
from pathlib import Path

import pytest

from modernize.cost import cost
from modernize.steps import REGIMES, until

FOLDER = Path(__file__).parent / "golden"
REFRESH = "pytest tests/test_golden.py --refresh-golden"


def text_of(regime):
    """The whole roadmap of a regime: the first network in full, then what each step changes."""
    variants = until("downsample", regime)
    size = REGIMES[regime].image_size
    specs = {variant.key: variant.spec for variant in variants}
    lines = [f"The roadmap of the regime {regime}, counted at {size} x {size} pixels."]
    for number, variant in enumerate(variants):
        branch = "" if variant.adopted else ", a side branch"
        lines += ["", f"{number} {variant.key}: {variant.title}"]
        lines += [f"  {variant.section}; {variant.training} recipe{branch}"]
        if variant.parent is None:
            lines += [f"  {line}" for line in variant.spec.text().splitlines()]
        else:
            changes = specs[variant.parent].diff(variant.spec).items()
            changed = "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in changes)
            lines += [f"  from {variant.parent}: {changed or 'the same network'}"]
        counted = cost(variant.spec, size)
        lines += [f"  params      {counted.params:>14,}"]
        lines += [f"  flops       {counted.flops:>14,}"]
        lines += [f"  flops_total {counted.flops_total:>14,}"]
        lines += [f"  activations {counted.activations:>14,}"]
    return "\n".join(lines) + "\n"


@pytest.mark.integration
@pytest.mark.parametrize("regime", REGIMES)
def test_every_network_is_what_it_was(regime, request):
    path, text = FOLDER / f"{regime}.txt", text_of(regime)
    if request.config.getoption("--refresh-golden"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != golden:
        diff = difflib.unified_diff(
            golden.splitlines(), text.splitlines(), str(path.name), "the code as it is", lineterm=""
        )
        pytest.fail("\n".join([*diff, "", f"If this is meant: {REFRESH}"]), pytrace=False)


def test_there_is_no_text_of_a_regime_that_is_gone():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(REGIMES)
