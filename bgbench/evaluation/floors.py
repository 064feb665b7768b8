"""Noise floors and controls: what exact draws of the same number would score, and what the prior scores.

A sampler whose distance is at the floor cannot be distinguished from exact draws. A floor is measured between
two halves of the reference's replicas; a control is the prior, a Gaussian around the start structure. Both
belong to the reference and not to the sampler, and cost several times what judging a cell does, so that
`Floors` remembers what has been measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.special import stdtrit

from bgbench.core.abstract import Estimate, MetricCase
from bgbench.core.plugins import plugins
from bgbench.core.types import Ensemble, Proposal, Reference, System
from bgbench.evaluation.protocols import Protocol
from bgbench.metrics.compute import compute_metrics
from bgbench.metrics.names import WITH_SKILL

CONTROL_WIDTH = 0.02
"""Width of the prior, nm; the `prior` sampler's own."""

CONTROL_FRAMES = 1_000
"""Frames of the prior, at most."""

FEWEST_EFFECTIVE = 100
"""The floor at n_eff is taken at no fewer points: below, a small effective number earns no more allowance."""

SPLITS = 4
"""Ways to halve the reference's replicas that a floor is the mean of."""

Scores = Mapping[str, float]
"""Values by the metric's name."""


@dataclass(frozen=True)
class FloorKey:
    """What determines a floor or a control, so that it need be measured only once.

    Attributes:
        split: which way to halve the replicas, from 0; None for the control.
        protocol: `name@version` of the protocol.
        reference_sha256: hash of the reference; empty where the reference has no file.
        frames: frames compared on each side.
        effective_frames: how many of the frames carry weight.
    """

    split: int | None
    protocol: str
    reference_sha256: str
    frames: int
    effective_frames: int


@dataclass(frozen=True)
class Floors:
    """Noise floors and controls of one reference under one protocol, as far as they have been measured.

    Frozen: `measure` returns another value that knows more. `means`, `bounds`, `at_effective` and `controls`
    look up what was measured before and raise KeyError for what was not.
    """

    protocol: Protocol
    system: System
    reference: Reference
    scores: Mapping[FloorKey, Scores] = field(default_factory=dict)

    @property
    def with_floor(self) -> tuple[str, ...]:
        """Metrics of the protocol that exact draws score above 0."""
        registry = plugins().metrics
        return tuple(name for name in self.protocol.metrics_of(self.system) if registry[name].has_floor)

    @property
    def with_control(self) -> tuple[str, ...]:
        """Metrics of the protocol that the prior is scored by."""
        return tuple(name for name in self.protocol.metrics_of(self.system) if name in WITH_SKILL)

    def recall(self, scores: Mapping[FloorKey, Scores]) -> "Floors":
        """These floors, with those among `scores` that are of this reference under this protocol.

        A reference without a hash recalls nothing: nobody knows which reference such scores are of.
        """
        own = (self.protocol.id, self.reference.sha256)
        known = {key: s for key, s in scores.items() if (key.protocol, key.reference_sha256) == own}
        return replace(self, scores={**self.scores, **known}) if self.reference.sha256 else self

    def measure(self, keys: Iterable[FloorKey]) -> "Floors":
        """These floors, with all of `keys`; those not known yet are measured."""
        new = {key: self._score(key) for key in dict.fromkeys(keys) if key not in self.scores}
        return replace(self, scores={**self.scores, **new})

    def judgement_keys(self, n: int, n_eff: float) -> list[FloorKey]:
        """The keys of everything that a judgement at `n` frames with `n_eff` effective ones needs."""
        return [*self.split_keys(n), *self.effective_keys(n, n_eff), self.control_key(n)]

    def split_keys(self, n: int) -> list[FloorKey]:
        """The keys of the floors at `n` frames, or half of the reference's if it has fewer than 2 n."""
        return [self._split_key(split, n) for split in range(SPLITS)]

    def effective_keys(self, n: int, n_eff: float) -> list[FloorKey]:
        """The keys of the floors of `n_eff` exact draws among `n` frames, `FEWEST_EFFECTIVE` at least."""
        points = round_down(max(n_eff, FEWEST_EFFECTIVE))
        keys = self.split_keys(n)[: self.protocol.effective_splits]
        return [replace(key, effective_frames=min(points, key.frames)) for key in keys]

    def control_key(self, n: int) -> FloorKey:
        """The key of the control at `n` frames."""
        return FloorKey(None, self.protocol.id, self.reference.sha256, n, n)

    def means(self, n: int) -> dict[str, float]:
        """The floor of each metric at `n` frames: the mean over `SPLITS` ways to halve the replicas."""
        return self._means(self.split_keys(n))

    def bounds(self, n: int) -> dict[str, float]:
        """What noise stays under: the bound of one more draw from the same normal, 97.5 % (Student).

        Empty with two to four replicas, which cannot be halved in `SPLITS` ways.
        """
        if 2 <= len(torch.unique(self.reference.replica)) <= SPLITS:
            return {}
        reach = float(stdtrit(SPLITS - 1, 0.975)) * math.sqrt(1 + 1 / SPLITS)
        means = self.means(n)
        values = self._by_metric(self.split_keys(n))
        return {name: means[name] + reach * float(v.std(ddof=1)) for name, v in values.items()}

    def at_effective(self, n: int, n_eff: float) -> dict[str, float]:
        """The floor of each metric for `n_eff` exact draws: what a sampler's own noise accounts for.

        It is a mean over as many ways to halve the replicas as the protocol says (`effective_splits`), with
        other draws of the half in each.
        """
        return self._means(self.effective_keys(n, n_eff))

    def controls(self, n: int) -> dict[str, float]:
        """What the prior scores at `n` frames."""
        return dict(self.scores[self.control_key(n)])

    def _means(self, keys: Sequence[FloorKey]) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in self._by_metric(keys).items()}

    def _by_metric(self, keys: Sequence[FloorKey]) -> dict[str, np.ndarray]:
        floors = [self.scores[key] for key in keys]
        return {name: np.array([floor[name] for floor in floors]) for name in floors[0]}

    def _split_key(self, split: int, n: int) -> FloorKey:
        n = min(n, *(half.n_samples for half in self.reference.halves(split)))
        return FloorKey(split, self.protocol.id, self.reference.sha256, n, n)

    def _score(self, key: FloorKey) -> dict[str, float]:
        if key.split is None:
            return self._score_prior(min(key.frames, CONTROL_FRAMES))
        first, second = self.reference.halves(key.split)
        ensemble = Ensemble.unweighted(first.x, first.u)
        if key.effective_frames < key.frames:
            log_w = torch.full_like(ensemble.log_w, -torch.inf)
            order = torch.randperm(first.n_samples, generator=torch.Generator().manual_seed(key.split))
            log_w[order[: key.effective_frames]] = 0.0
            ensemble = Ensemble(first.x, first.u, log_w)
        return self._compare(ensemble, second, key.frames, self.with_floor)

    def _score_prior(self, n: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        positions = self.system.positions
        noise = torch.randn(n, *positions.shape, generator=generator)
        ensemble = Ensemble.unweighted(positions.float() + CONTROL_WIDTH * noise, torch.zeros(n))
        return self._compare(ensemble, self.reference, n, self.with_control)

    def _compare(
        self, ensemble: Ensemble, reference: Reference, n: int, names: tuple[str, ...]
    ) -> dict[str, float]:
        estimate = Estimate(ensemble, Proposal(ensemble.x))
        generator = torch.Generator().manual_seed(0)
        case = MetricCase(self.system, estimate, reference, n, generator, self.protocol.options)
        values = compute_metrics(case, names)
        return {name: values[name] for name in names if name in values}


def round_down(n_eff: float) -> int:
    """`n_eff` to two significant digits, downwards, so that runs with about the same share one floor.

    >>> [round_down(n_eff) for n_eff in (100.0, 257.3, 9_999.0)]
    [100, 250, 9900]
    """
    digits = 10 ** max(0, math.floor(math.log10(n_eff)) - 1)
    return int(n_eff // digits * digits)


def compute_skills(values: Scores, floors: Scores, controls: Scores) -> dict[str, float]:
    """(control − value) / (control − floor): 1 on the floor, 0 like the prior; never clipped.

    Left out where the control is no worse than the floor.

    >>> compute_skills({"torus_w2": 0.5}, {"torus_w2": 0.25}, {"torus_w2": 1.25})
    {'torus_w2': 0.75}
    """
    return {
        name: (controls[name] - values[name]) / (controls[name] - floors[name])
        for name in values
        if name in controls and name in floors and controls[name] > floors[name]
    }
