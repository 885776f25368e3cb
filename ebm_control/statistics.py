"""Confidence intervals of the mean of a few repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit


def half_interval(values: Sequence[float] | ArrayLike, confidence: float = 0.95) -> float | None:
    """Half the width of the confidence interval of the mean of independent `values` `(N,)`, by Student's t.

    The normal distribution's 1.96 instead of Student's quantile would cover the mean in 86 % of cases with four
    values and in 92 % with ten.

    Returns:
        In the units of `values`; None for fewer than two values, which have no spread.

    """
    given = np.asarray(values, np.float64)
    n = len(given)
    if n < 2:
        return None
    quantile = stdtrit(n - 1, 0.5 + confidence / 2)  # scipy.stats.t.ppf, which takes seconds to import
    return float(quantile * given.std(ddof=1) / math.sqrt(n))
