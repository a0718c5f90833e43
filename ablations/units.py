"""Numbers as text: units and digits; values that are not finite become an empty text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from modernize.text import plural

SMALL = 1e8
"""FLOPs; a table or chart whose networks all have fewer shows them in MFLOPs."""

_PREFIXES = ("", "kilo-", "mega-", "giga-", "tera-", "peta-", "exa-", "zetta-", "yotta-")
_FLOPS = ((1e9, "GFLOPs"), (1e6, "MFLOPs"), (1e3, "kFLOPs"), (1, "FLOPs"))


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit for the costs of some networks.

    Attributes:
        name: of the unit.
        flops: its size in FLOPs.
        decimals: that show each of the costs with three digits.
    """

    name: str
    flops: float
    decimals: int = 2

    def show(self, flops: float, sign: str = "") -> str:
        """Returns FLOPs in this unit; ``sign``: ``+`` for a difference."""
        return fixed(flops / self.flops, self.decimals, sign)


def choose_unit(costs: Iterable[float]) -> Unit:
    """Returns MFLOPs if all networks are small, otherwise GFLOPs.

    Args:
        costs: FLOPs of each for one image; 0 if unknown.
    """
    known = list(costs)
    small = 0 < max(known, default=0) < SMALL
    name, flops = ("MFLOPs", 1e6) if small else ("GFLOPs", 1e9)
    return Unit(name, flops, decimals(cost / flops for cost in known))


def decimals(costs: Iterable[float | None]) -> int:
    """Returns the decimals that show the smallest of some costs with three digits; at least 2."""
    least = min((cost for cost in costs if cost and cost > 0), default=1.0)
    return max(2, 2 - math.floor(math.log10(least)))


def fixed(value: float | None, decimals: int = 2, sign: str = "") -> str:
    """Returns a number with these decimals; ``sign``: ``+`` also for a positive one."""
    return _format(value, f"{sign},.{decimals}f")


def integer(value: float | None) -> str:
    """Returns an integer: "1,281,167"."""
    return fixed(value, 0)


def millions(count: float) -> str:
    """Returns a count in millions: "28.59"."""
    return fixed(count / 1e6)


def _format(value: float | None, style: str) -> str:
    """Returns a number in a style such as ``.2f``; nothing for None, NaN and infinity."""
    return "" if value is None or not math.isfinite(value) else format(value, style)


def digits(value: float, count: int = 3) -> str:
    """Returns a number with this many digits: "0.0314", "3.14"; integers in full: "31,416"."""
    if not value or not math.isfinite(value):
        return _format(value, "g")
    rounded = float(f"{value:.{count - 1}e}")
    decimals = max(count - 1 - math.floor(math.log10(abs(rounded))), 0)
    return fixed(rounded if decimals else value, decimals)


def flops(count: float) -> str:
    """Returns the FLOPs of a network for one image: "29.8 GFLOPs", "12.9 MFLOPs"."""
    size, name = next((s, n) for s, n in _FLOPS if count >= 0.9995 * s or s == 1)
    return f"{digits(count / size)} {name}"


def work(macs: float) -> str:
    """Returns the MACs of whole trainings: "78.8 exa-MACs"."""
    power = max(math.floor(math.log10(macs)) // 3, 0) if macs > 0 and math.isfinite(macs) else 0
    power += macs / 1000**power >= 999.5  # which would be read as 1,000
    power = min(power, len(_PREFIXES) - 1)
    return f"{digits(macs / 1000**power)} {_PREFIXES[power]}MACs"


def times(factor: float) -> str:
    """Returns "0.52 x", "6.7 x", "120 x"."""
    if factor < 0.095:
        return f"{digits(factor, 2)} x"
    return f"{fixed(factor, 2 if factor < 1.995 else 1 if factor < 99.95 else 0)} x"


def duration(seconds: float) -> str:
    """Returns "less than 1 s", "41 s", "3 min 20 s", "5 h 12 min" or "1,400 h (58 days)"."""
    if not math.isfinite(seconds):
        return ""
    if seconds <= 0.5:
        return "less than 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        hours += minutes >= 30
        return f"{integer(hours)} h ({plural(round(hours / 24), 'day')})"
    parts = [f"{hours} h", f"{minutes} min"] if hours else [f"{minutes} min", f"{rest} s"]
    return " ".join(part for part in parts if not part.startswith("0 "))


def about(seconds: float) -> str:
    """Returns an estimated duration: "about 41 s", "less than 1 s"."""
    return duration(seconds) if seconds <= 0.5 else f"about {duration(seconds)}"


def memory(mebibytes: float) -> str:
    """Returns "640 MiB" or "12.3 GiB"."""
    if mebibytes < 1024:
        return f"{integer(mebibytes)} MiB"
    return f"{fixed(mebibytes / 1024, 1)} GiB"


def rate(images_per_second: float) -> str:
    """Returns "1,234 images/s", "56.7 images/s"; "speed not measured" for 0."""
    shown = digits(images_per_second) if images_per_second else ""
    return f"{shown} images/s" if shown else "speed not measured"


def percent(value: float | None, decimals: int = 2) -> str:
    """Returns "81.25 %"."""
    shown = fixed(value, decimals)
    return f"{shown} %" if shown else ""


def mean_and_std(mean: float | None, std: float | None) -> str:
    """Returns "81.25 ± 0.30"; "81.25" if the standard deviation is unknown."""
    return " ".join(filter(None, [fixed(mean), deviation(std)]))


def deviation(std: float | None) -> str:
    """Returns a standard deviation: "± 0.30"."""
    shown = fixed(std)
    return f"± {shown}" if shown else ""


def signed(value: float | None) -> str:
    """Returns a difference in percentage points with its sign; zero has no sign."""
    text = fixed(value, sign="+")
    return "0.00" if text and float(text) == 0 else text


def p_value(p: float, level: float) -> str:
    """Returns a p-value with its relation sign: "= 0.012", "< 0.001".

    It shows on which side of a test's level it is.
    """
    if p < 0.001:
        return "< 0.001"
    for text in (f"{p:.3f}", f"{p:.4f}"):
        if float(text) != level or p == level:
            return f"= {text}"
    return f"< {level}" if p < level else f"> {level}"
