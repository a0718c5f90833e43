"""Every network of every regime as text, so that a change of any of them shows in a diff.

When a change is meant, refresh the texts and read the diff before committing it:

    pytest tests/test_golden.py --refresh-golden
"""

from pathlib import Path

import pytest

from modernize.cost import cost
from modernize.steps import REGIMES, until

FOLDER = Path(__file__).parent / "golden"


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
def test_every_network_is_what_it_was(regime, golden):
    golden(regime, text_of(regime))


def test_there_is_no_text_of_a_regime_that_is_gone():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(REGIMES)
