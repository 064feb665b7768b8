"""Protocols: named, versioned rules of judging. How many frames are compared, and how weights are treated.

Records of different protocols never share a table. `paper@1` holds the published rules
(arXiv 2508.18175); `bgbench@1` weights every point and throws nothing away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bgbench.core.abstract import Conventions
from bgbench.core.errors import BgbenchError
from bgbench.core.types import Ensemble
from bgbench.metrics.names import DIVERGENCES
from bgbench.metrics.sides import equally_weighted


@dataclass(frozen=True)
class Protocol:
    """The rules that a cell is judged by.

    Attributes:
        name: `name@version`.
        n_samples: frames compared on each side; fewer only where budget or reference has fewer.
        conventions: choices about densities that samplers follow.
        options: what metrics read: `weights` (`weighted` or `resampled`), `transport` (frames of a transport
            problem), `cut` (a rule of `cut_weights`); and `rank`, see `score_for_ranking`.
    """

    name: str
    n_samples: int
    conventions: Conventions
    options: Mapping[str, Any]

    def score_for_ranking(self, metric: str, value: float, floors_at_n_eff: Mapping[str, float]) -> float:
        """The number that samplers are ranked by, lower or higher being better as for the metric itself.

        Under `rank: excess` it is value² − floor² with the floor at the sampler's own n_eff: bias and noise
        of a distance add up in squares, so that what is left is the bias, and fewer points neither cost rank
        nor buy it. A divergence is a square already: value − floor. Never clipped. A metric without a floor,
        or a protocol without the rule, ranks by the value.

        >>> floors = {"torus_w2": 0.3}
        >>> round(get_protocol("bgbench@1").score_for_ranking("torus_w2", 0.5, floors), 3)
        0.16
        >>> get_protocol("paper@1").score_for_ranking("torus_w2", 0.5, floors)
        0.5
        """
        if self.options.get("rank") != "excess" or metric not in floors_at_n_eff:
            return value
        power = 1 if metric in DIVERGENCES else 2
        return float(value**power - floors_at_n_eff[metric] ** power)

    def cuts_weights(self, ensemble: Ensemble) -> bool:
        """Whether the protocol itself drops weights of this ensemble; equal weights are never cut."""
        return self.options.get("cut", "none") != "none" and not equally_weighted(ensemble)


PROTOCOLS = {
    "bgbench@1": Protocol(
        "bgbench@1",
        10_000,
        Conventions("gaussian", "zero"),
        {"weights": "weighted", "transport": 2_500, "rank": "excess"},
    ),
    "paper@1": Protocol(
        "paper@1", 10_000, Conventions("chi", "flip"), {"weights": "resampled", "cut": "drop"}
    ),
}


def get_protocol(name: str) -> Protocol:
    """The protocol called `name` (`name@version`).

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    if name not in PROTOCOLS:
        raise BgbenchError(f"unknown protocol '{name}'; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
