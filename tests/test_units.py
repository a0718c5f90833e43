"""Numbers as people read them."""

import math

import pytest

from ablations import units


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (units.duration, 0.001, "less than 1 s"),
        (units.about, 0.001, "less than 1 s"),
        (units.about, 0.5, "less than 1 s"),
        (units.about, 200, "about 3 min 20 s"),
        (units.duration, 5.148, "5 s"),  # 0.00143 hours
        (units.duration, 59.6, "1 min"),
        (units.duration, 200, "3 min 20 s"),
        (units.duration, 18_720, "5 h 12 min"),
        (units.duration, 360_000, "100 h (4 days)"),
        (units.duration, 5e6, "1,389 h (58 days)"),
        (units.duration, math.nan, ""),
        (units.work, 0, "0 MACs"),
        (units.work, 999.6e9, "1.00 tera-MACs"),
        (units.work, 78_831_583.9e12, "78.8 exa-MACs"),
        (units.flops, 999.9e6, "1.00 GFLOPs"),
        (units.flops, 3.1e6, "3.10 MFLOPs"),
        (units.flops, 29.838e9, "29.8 GFLOPs"),
        (units.times, 0.0123, "0.012 x"),
        (units.times, 1.996, "2.0 x"),
        (units.times, 1234.0, "1,234 x"),
        (units.rate, math.nan, "speed not measured"),
        (units.rate, 12.34, "12.3 images/s"),
        (units.rate, 12_345.6, "12,346 images/s"),
        (units.percent, math.nan, ""),
        (units.percent, 81.254, "81.25 %"),
        (units.signed, -0.004, "0.00"),
        (units.digits, 999.6, "1,000"),
        (units.digits, 0.0031415, "0.00314"),
    ],
)
def test_a_number_as_text(function, value, text):
    assert function(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(1e-9, "< 0.001"), (0.012, "= 0.012"), (0.05016, "= 0.0502"), (0.04996, "< 0.05"),
     (0.05004, "> 0.05"), (0.05, "= 0.050"), (1.0, "= 1.000")],
)  # fmt: skip
def test_a_p_value_is_on_its_side_of_the_level(p, text):
    assert units.p_value(p, 0.05) == text


def test_costs_have_three_digits_or_two_decimals():
    unit = units.choose_unit([3.1e6, 2.2e6])
    assert (unit.name, unit.show(3.1e6), unit.show(-1e5, "+")) == ("MFLOPs", "3.10", "-0.10")
    unit = units.choose_unit([4.1e9, 3.1e6])
    assert (unit.name, unit.show(3.1e6)) == ("GFLOPs", "0.00310")
