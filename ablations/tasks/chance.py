"""The accuracy of a classifier at chance.

A result is at chance if a network that always predicts the most common class could be right as
often, by an exact binomial test.
"""

from __future__ import annotations

import dataclasses

from ablations.units import percent
from modernize.text import plural

LEVEL = 0.01  # probability that a network at chance is taken for a better one
FEWEST = 10  # the test needs at least this number of validation images


@dataclasses.dataclass(frozen=True)
class ChanceLevel:
    """The accuracy of a network that learnt nothing.

    Attributes:
        images: validation images that were evaluated.
        fraction: of the validation images, those of the most common class.
    """

    images: int
    fraction: float

    def limit(self) -> int | None:
        """Returns the most images that are still right by chance, at the level :data:`LEVEL`.

        None if there are too few images for a test: fewer than :data:`FEWEST`, or so few that a
        network halfway from chance to 100 % would be taken for one at chance.
        """
        import numpy as np
        from scipy.special import bdtrc  # imports in a tenth of the time of scipy.stats

        if self.images < FEWEST or self.fraction >= 1:
            return None
        more = bdtrc(np.arange(self.images + 1), self.images, self.fraction)  # P(X > k)
        most = int(np.argmax(more <= LEVEL))
        return most if 2 * most < (1 + self.fraction) * self.images else None

    def explain(self, top1: float) -> str:
        """Returns why an accuracy in percent is at chance; an empty text if it is not."""
        most = self.limit()
        if most is None or round(top1 * self.images / 100) > most:
            return ""
        return (
            f"top-1 of {percent(top1)} is at chance: of {plural(self.images, 'image')}, a network "
            f"that always predicts the most common class ({percent(100 * self.fraction)} of them) "
            f"gets up to {percent(100 * most / self.images)} right ({percent(100 * LEVEL, 0)} "
            "level)"
        )
