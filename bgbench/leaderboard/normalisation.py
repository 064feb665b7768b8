"""log Z of importance weights: the same for every seed of a sampler, whatever its density is made of.

A density that is made up for each draw, such as −u and a constant, gives any log Z; that of a true one
scatters by its standard error. Only estimates whose error can be trusted are compared: k̂ of the weights' tail
is small, and the effective points are many. Samplers that miss a mode have a smaller log Z than others,
honestly: between entries the difference is shown, and refuses nobody.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from bgbench.estimators.pareto import errors_known
from bgbench.estimators.weights import log_z
from bgbench.leaderboard.rules import ENERGY_TOLERANCE, LOG_Z_ERRORS


class LogZ(NamedTuple):
    """log of the mean weight and its standard error."""

    value: float
    error: float

    def errors_apart(self, other: "LogZ") -> float:
        """The difference in standard errors, beyond what energies may differ by.

        >>> LogZ(0.0, 0.3).errors_apart(LogZ(1.05, 0.4))
        2.0
        """
        beyond = max(0.0, abs(self.value - other.value) - ENERGY_TOLERANCE)
        return beyond / max(math.hypot(self.error, other.error), 1e-9)


def trusted_log_z(log_w: np.ndarray) -> LogZ | None:
    """log Z of the weights `log_w (n,)` before any cut; None where its error cannot be trusted.

    >>> trusted_log_z(np.zeros(200))
    LogZ(value=0.0, error=0.0)
    >>> trusted_log_z(np.array([0.0, -1000.0])) is None
    True
    """
    weights = torch.from_numpy(np.ascontiguousarray(log_w, dtype=np.float64))
    return LogZ(*log_z(weights)) if errors_known(weights) else None


def far_apart(values: Mapping[str, LogZ]) -> tuple[str, str, float] | None:
    """The two names whose log Z differ by most standard errors, and by how many; None if all agree.

    >>> far_apart({"AA-s0": LogZ(0.0, 0.01), "AA-s1": LogZ(0.01, 0.01)}) is None
    True
    """
    pairs = (
        (one, two, values[one].errors_apart(values[two])) for one, two in combinations(sorted(values), 2)
    )
    most = max(pairs, key=lambda pair: pair[2], default=None)
    return most if most is not None and most[2] > LOG_Z_ERRORS else None


def mean_of(values: Sequence[LogZ]) -> LogZ:
    """The mean of independent values, at least one.

    >>> mean_of([LogZ(0.0, 0.3), LogZ(1.0, 0.4)])
    LogZ(value=0.5, error=0.25)
    """
    return LogZ(
        sum(z.value for z in values) / len(values), math.hypot(*(z.error for z in values)) / len(values)
    )
