"""Law books for plugin authors: subclass one, give the fixtures it asks for, and pytest runs the laws.

from bgbench.testing import DensitySamplerLaws, SamplerPluginLaws

class TestMine(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self): return MySampler()

class TestMyPlugin(SamplerPluginLaws):
    @pytest.fixture
    def plugin(self): return my_package.bgbench_samplers()[0]
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import SkipTest

import torch
from torch import Tensor

from bgbench.authoring.check import CheckReport, check_plugin
from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractEstimator,
    AbstractSampler,
    Conventions,
    Estimate,
    Invertible,
    MetricCase,
    Task,
    refuse_unsupported,
)
from bgbench.core.calls import call_draw, call_estimate, call_latent, call_log_prob, call_prepare, call_sample
from bgbench.core.counting import count_evaluations
from bgbench.core.elsewhere import elsewhere
from bgbench.core.errors import BgbenchError, BrokenContract, Unsupported
from bgbench.core.guard import contained
from bgbench.core.hookspecs import EnergyPlugin, EstimatorPlugin, MetricPlugin, SamplerPlugin
from bgbench.core.options import describe_options
from bgbench.core.plugins import plugins
from bgbench.core.types import Card, Ensemble, Proposal
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.meter import MeteredEnergy
from bgbench.energies.spotcheck import fraction_of_false_energies
from bgbench.evaluation.audit import audit
from bgbench.evaluation.checks import all_broken, refuse_angstrom, refuse_unmetered
from bgbench.evaluation.protocols import read_protocol
from bgbench.evaluation.suites import read_suite
from bgbench.references.providers import find_reference
from bgbench.systems.analytic import AnalyticEnergy, analytic_system
from bgbench.systems.chirality import is_wrong
from bgbench.systems.named import find_member
from bgbench.systems.peptides import peptide

__all__ = [
    "WIDTHS",
    "DensitySamplerLaws",
    "EnergyPluginLaws",
    "EstimatorLaws",
    "EstimatorPluginLaws",
    "MetricPluginLaws",
    "ProtocolLaws",
    "SamplerLaws",
    "SamplerPluginLaws",
    "SuiteLaws",
    "Wide",
    "analytic_task",
    "check",
    "elsewhere",
    "peptide_task",
]


def peptide_task(sequence: str = "AA", budget: int = 400, seed: int = 0, n_samples: int = 50) -> Task:
    """Make a small metered task on a real peptide.

    Args:
        sequence: of the peptide, in one-letter codes.
        budget: energy evaluations.
        seed: of the task's generator.
        n_samples: how many conformers are scored.

    Returns:
        The task, with the batched energy.

    >>> peptide_task("GG", budget=10).oracle.remaining
    10
    """
    system = peptide(sequence)
    oracle = MeteredEnergy(BatchedEnergy(system), budget)
    return Task(system, oracle, torch.Generator().manual_seed(seed), n_samples)


WIDTHS = {
    "analytic:harmonic": (0.12, 0.25, 0.5),
    "analytic:double-well": (1.2, 0.35, 0.35),
    "analytic:torus-mixture": (1.8, 1.8, 0.6),
    "analytic:correlated": (0.35, 0.35, 0.3),
}
"""Standard deviations, in nm, of a normal density that covers each analytic system: for `Wide`."""


def analytic_task(name: str, budget: int, seed: int = 0) -> Task:
    """Make a metered task on a system with known answers; at most 100 conformers are scored.

    Args:
        name: of the system, `analytic:harmonic`, `analytic:double-well`, `analytic:torus-mixture` or
            `analytic:correlated`.
        budget: energy evaluations.
        seed: of the task's generator.

    Returns:
        The task.

    Raises:
        BgbenchError: for another name.

    >>> analytic_task("analytic:harmonic", budget=10).system.n_atoms
    1
    """
    system = analytic_system(name)
    oracle = MeteredEnergy(AnalyticEnergy(system), budget)
    return Task(system, oracle, torch.Generator().manual_seed(seed), min(budget, 100))


RESIDUES = ("AC", "DE", "FG", "HI", "KL", "MN", "PQ", "RS", "TV", "WY")
"""Dipeptides that hold each of the twenty residues once."""


class Wide(AbstractDensitySampler):
    """A normal over one particle, to judge estimators by; `bias` makes its log q deliberately wrong.

    Args:
        widths: standard deviations of x, y and z in nm, such as those of `WIDTHS`.
        bias: what is added to log q for each standard deviation of x; 0 for an exact density.

    >>> task = analytic_task("analytic:harmonic", budget=10)
    >>> proposal = Wide(WIDTHS["analytic:harmonic"]).sample(task, 5)
    >>> proposal.x.shape, proposal.log_q.shape
    (torch.Size([5, 1, 3]), torch.Size([5]))
    """

    def __init__(self, widths: Sequence[float], bias: float = 0.0) -> None:
        self.widths, self.bias = torch.tensor(widths, dtype=torch.float64), bias

    def draw(self, task: Task, n_samples: int) -> Proposal:
        noise = torch.randn(n_samples, 1, 3, generator=task.generator, dtype=torch.float64)
        x = self.widths * noise
        task.oracle.count("drawn", n_samples, 0.0)
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task: Task, x: Tensor) -> Tensor:
        z = x[:, 0] / self.widths
        task.oracle.count("log_density", len(x), 0.0)
        normal = -0.5 * z.square().sum(-1) - self.widths.log().sum() - 1.5 * math.log(2 * math.pi)
        return normal + self.bias * z[:, 0]


class SamplerLaws:
    """Every sampler: right shapes, right numbers, within budget, reproducible, leaves globals alone.

    Needs a fixture `sampler`.

    Attributes:
        n_samples: drawn by each law.
        rounding: nm that conformers may lie apart on two devices, which sum in another order.
        device_peptide: the peptide of the laws about devices. Operations are slow on a device that is not
            there, and two conformers must do.

    >>> from bgbench.core.plugins import build_sampler
    >>> SamplerLaws().test_is_reproducible_and_follows_its_generator(build_sampler("prior", {}))
    """

    n_samples = 20
    rounding = 1e-4
    device_peptide = "GG"

    def test_returns_what_was_asked_within_the_budget(self, sampler: AbstractSampler) -> None:
        """Shape, count, finite positions, budget kept."""
        for sequence in ("AA", "GS"):
            task = peptide_task(sequence)
            x = call_sample(sampler, task, self.n_samples).x
            shape, wanted = tuple(x.shape), (self.n_samples, task.system.n_atoms, 3)
            _demand(shape == wanted, f"returned shape {shape} for {sequence}, not {wanted}")
            _demand(bool(torch.isfinite(x).all()), f"returned positions of {sequence} that are not finite")
            _demand(task.oracle.remaining >= 0, "budget passed")

    def test_is_reproducible_and_follows_its_generator(self, sampler: AbstractSampler) -> None:
        """The same seed gives the same samples, another seed others."""
        first, again, other = (
            sampler.sample(peptide_task(seed=seed), self.n_samples).x for seed in (0, 0, 1)
        )
        _demand(torch.equal(first, again), "the same seed gave other samples")
        _demand(not torch.equal(first, other), "another seed gave the same samples")

    def test_leaves_globals_alone(self, sampler: AbstractSampler) -> None:
        """Generators, threads, dtype, standard output and the tensors it is handed are as they were."""
        task = peptide_task()
        with _guarded(task):
            sampler.sample(task, self.n_samples)

    def test_meters_every_energy(self, sampler: AbstractSampler) -> None:
        """Energies are evaluated by `task.oracle` only, which charges them."""
        task = peptide_task(budget=400)
        with count_evaluations() as made:
            call_sample(call_prepare(sampler, task), task, self.n_samples)
        with _as_law():
            refuse_unmetered(made.n, 400 - task.oracle.remaining, type(sampler).__name__)

    def test_positions_are_in_nanometres(self, sampler: AbstractSampler) -> None:
        """Bonds are about as long as those of the start structure, and not ten times as long."""
        task = peptide_task()
        x = call_sample(sampler, task, self.n_samples).x
        if not all_broken(task.system, x):
            return
        with _as_law():
            refuse_angstrom(task.system, x, type(sampler).__name__)
        ratios = _bond_lengths(task, x) / _bond_lengths(task, task.system.positions[None])
        middle = float(ratios.median())
        # Noise is of any length; bonds that are all wrong by one factor are in another unit.
        alike = float((ratios / middle - 1).abs().median()) < 0.2
        _demand(
            not alike or 0.5 < middle < 2,
            f"bonds are {middle:.2g} times as long as they should be; give positions in nm",
        )

    def test_conformers_have_the_chirality_of_the_system(self, sampler: AbstractSampler) -> None:
        """Some conformers have the chirality of the start structure; mirror images alone get no weight."""
        system = peptide_task().system
        x = call_sample(sampler, peptide_task(), self.n_samples).x
        mirrored = bool((is_wrong(system, x) & ~is_wrong(system, -x)).all())
        _demand(not mirrored, f"every conformer of {system.name} is a mirror image: D-residues, not L")

    def test_energies_are_those_of_the_samples(self, sampler: AbstractSampler) -> None:
        """`u`, where the sampler returns it, belongs to the conformers beside it."""
        task = peptide_task()
        proposal = call_sample(sampler, task, self.n_samples)
        if proposal.u is None:
            return
        ensemble = Ensemble.unweighted(proposal.x, proposal.u)
        wrong = fraction_of_false_energies(BatchedEnergy(task.system), ensemble)
        _demand(wrong <= 0.5, f"{wrong:.0%} of the energies `u` are not those of the conformers beside them")

    def test_samples_or_refuses_every_residue(self, sampler: AbstractSampler) -> None:
        """Each of the twenty residues, in ten dipeptides: conformers, or a refusal with its reason."""
        for sequence in RESIDUES:
            task = peptide_task(sequence)
            try:
                refuse_unsupported(sampler, task.system)
            except Unsupported:
                continue
            try:
                x = call_sample(sampler, task, 2).x
            except Exception as error:
                raise AssertionError(
                    f"fails on {sequence} with {type(error).__name__}: {error}; "
                    "check_supports does not refuse it"
                ) from error
            _demand(tuple(x.shape) == (2, task.system.n_atoms, 3), f"wrong number of atoms for {sequence}")
            _demand(bool(torch.isfinite(x).all()), f"positions of {sequence} that are not finite")

    def test_samples_or_refuses_systems_without_atoms(self, sampler: AbstractSampler) -> None:
        """The systems with known answers: one particle, no elements, no bonds."""
        for name in WIDTHS:
            task = analytic_task(name, budget=100)
            try:
                refuse_unsupported(sampler, task.system)
            except Unsupported:
                continue
            try:
                x = call_sample(sampler, task, 2).x
            except Exception as error:
                raise AssertionError(
                    f"fails on {name}, which has no atoms, with {type(error).__name__}: {error}; "
                    "check_supports does not refuse it"
                ) from error
            _demand(tuple(x.shape) == (2, task.system.n_atoms, 3), f"wrong shape for {name}")
            _demand(bool(torch.isfinite(x).all()), f"positions of {name} that are not finite")

    def test_works_on_two_systems_in_turn(self, sampler: AbstractSampler) -> None:
        """Nothing of one system is carried to the next."""
        first = sampler.sample(peptide_task("AA"), self.n_samples).x
        sampler.sample(peptide_task("GS"), self.n_samples)
        _demand(torch.equal(first, sampler.sample(peptide_task("AA"), self.n_samples).x), "state was kept")

    def test_computes_on_any_device(self, sampler: AbstractSampler) -> None:
        """On another device (`elsewhere`) the same conformers, up to rounding, and on the CPU again after it.

        What fails is a tensor that was left on the CPU, or noise of a generator of the device. A sampler that
        ignores `task.device` passes.
        """
        here = call_sample(sampler, peptide_task(self.device_peptide), 2)
        with elsewhere() as device:
            there = call_sample(sampler, replace(peptide_task(self.device_peptide), device=device), 2)
        gap = float((there.x - here.x).abs().max())
        _demand(gap <= self.rounding, f"on another device conformers lie {gap:.2g} nm away")
        again = call_sample(sampler, peptide_task(self.device_peptide), 2)
        _demand(torch.equal(again.x, here.x), "back on the CPU the same seed gave other samples")

    def test_refuses_systems_with_a_reason_or_not_at_all(self, sampler: AbstractSampler) -> None:
        """`check_supports` returns nothing, or raises `Unsupported` with a reason; nothing else."""
        for system in (peptide("AA"), analytic_system("analytic:harmonic")):
            try:
                refuse_unsupported(sampler, system)
            except Unsupported as error:
                reason = str(error).removeprefix(f"{system.name}: ")
                _demand(bool(reason.strip()), f"refuses {system.name} without a reason")

    def test_declares_itself(self, sampler: AbstractSampler) -> None:
        """The card is a `Card` with a name, and the same one each time."""
        _demand(isinstance(sampler.card, Card), f"the card is {sampler.card!r}, not a bgbench.Card")
        _demand(bool(sampler.card.name), "the card has no name")
        _demand(sampler.card == sampler.card, "the card changes from one reading to the next")


class DensitySamplerLaws(SamplerLaws):
    """Samplers with a density: `draw` and `log_prob` are one function, smooth, and free of the centre.

    Attributes:
        tolerance: nats per atom that `draw` and `log_prob` may differ by.
        audit_draws: that the density audit tests the law of draws on; fewer where a draw is dear.

    >>> from bgbench.core.plugins import build_sampler
    >>> DensitySamplerLaws().test_draw_and_log_prob_agree(build_sampler("prior", {}))
    """

    tolerance = 1e-3
    audit_draws = 128

    def test_draw_and_log_prob_agree(self, sampler: AbstractDensitySampler) -> None:
        """For every convention."""
        for conventions in (
            Conventions("gaussian", "zero"),
            Conventions("chi", "flip"),
            Conventions("gaussian", "fold"),
        ):
            task = replace(peptide_task(), conventions=conventions)
            x, drawn = call_draw(sampler, task, self.n_samples)
            log_q = call_log_prob(sampler, task, x)
            gap = float((log_q - drawn).abs().max())
            _demand(gap <= self.tolerance * task.system.n_atoms, f"draw and log_prob differ by {gap}")

    def test_density_is_the_same_on_any_device(self, sampler: AbstractDensitySampler) -> None:
        """log q and its gradient on another device (`elsewhere`), for conformers of the CPU; and the map."""
        task = peptide_task(self.device_peptide)
        x = call_sample(sampler, task, 2).x
        here = _density_and_gradient(sampler, task, x)
        with elsewhere() as device:
            there = _density_and_gradient(sampler, replace(task, device=device), x)
        limit = self.tolerance * task.system.n_atoms
        gap = float((there[0] - here[0]).abs().max())
        _demand(gap <= limit, f"on another device log_prob differs by {gap:.2g} nats")
        length = float(here[1].norm().clamp_min(1.0))
        gap = float((there[1] - here[1]).norm()) / length
        _demand(gap <= self.tolerance, f"on another device the gradient differs by {gap:.2g} of its length")
        if isinstance(sampler, Invertible):
            z, log_det = call_latent(sampler, task, x)
            with elsewhere() as device:
                z_there, log_det_there = call_latent(sampler, replace(task, device=device), x)
            _demand(bool(((log_det_there - log_det).abs() <= limit).all()), "another log_det there")
            _demand(torch.allclose(z_there, z, atol=self.tolerance), "other noise there")

    def test_gradient_is_that_of_the_density(self, sampler: AbstractDensitySampler) -> None:
        """Against a central difference along a random direction."""
        task = peptide_task()
        x = sampler.draw(task, 2).x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sampler.log_prob(task, x).sum(), x)
        direction = torch.randn(x.shape, generator=task.generator, dtype=x.dtype)
        step = 1e-3 * direction / direction.norm()
        with torch.no_grad():
            ahead, behind = sampler.log_prob(task, x + step), sampler.log_prob(task, x - step)
        expected = float((ahead - behind).double().sum()) / 2
        analytic = float((gradient * step).sum())
        _demand(
            abs(analytic - expected) <= 0.05 * abs(expected) + 0.02,
            f"gradient {analytic}, difference {expected}",
        )

    def test_density_passes_the_audit(self, sampler: AbstractDensitySampler) -> None:
        """All of `bgbench audit`, on `audit_draws` draws."""
        checks = audit(sampler, peptide_task().system, n_draws=self.audit_draws)
        failed = [
            f"{check.name} {check.value:.3g}, at most {check.limit:.3g} ({check.note})"
            for check in checks
            if not check.passed
        ]
        _demand(not failed, f"the density fails its audit: {'; '.join(failed)}")

    def test_chunks_are_one_sequence(self, sampler: AbstractDensitySampler) -> None:
        """`sample` in chunks returns as many as asked for, with their densities."""
        proposal = sampler.sample(peptide_task(), self.n_samples)
        _demand(proposal.log_q is not None and len(proposal.log_q) == self.n_samples, "chunks lost samples")


def _bond_lengths(task: Task, x: Tensor) -> Tensor:
    """Lengths `(n, bonds)` in nm."""
    start, end = torch.tensor(task.system.bonds).T
    return (x[:, start] - x[:, end]).double().norm(dim=-1)


def _density_and_gradient(sampler: AbstractDensitySampler, task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
    at = x.clone().requires_grad_()
    log_q = call_log_prob(sampler, task, at)
    (gradient,) = torch.autograd.grad(log_q.sum(), at)
    return log_q.detach(), gradient


class SamplerPluginLaws:
    """Every sampler as it is registered: it refuses options that it does not have.

    Needs a fixture `plugin`, the `bgbench.SamplerPlugin` that the hook returns.

    >>> from bgbench.core.plugins import plugins
    >>> SamplerPluginLaws().test_refuses_an_unknown_option(plugins().samplers["prior"])
    """

    def test_refuses_an_unknown_option(self, plugin: SamplerPlugin) -> None:
        """A misspelt `--set` would otherwise run the benchmark with the default, in silence."""
        _demand_refusal(plugin.name, plugin.build)

    def test_describes_its_options(self, plugin: SamplerPlugin) -> None:
        """`options` is the dataclass that `build` reads, with a docstring below each field."""
        _demand_descriptions(plugin.options)


class EstimatorLaws:
    """Every estimator: an aligned ensemble within the budget, and the same one from the same seed.

    Needs a fixture `estimator`. The samplers are wide normals over systems with known answers; of one that an
    estimator refuses (`check_sampler`) nothing is asked.

    Attributes:
        budget: of each law.

    >>> from bgbench.core.plugins import build_estimator
    >>> EstimatorLaws().test_returns_a_weighted_ensemble_within_the_budget(build_estimator("snis", {}))
    """

    budget = 200

    def _estimate(self, estimator: AbstractEstimator, name: str, seed: int = 0) -> tuple[Task, Estimate]:
        sampler, task = Wide(WIDTHS[name]), analytic_task(name, self.budget, seed)
        try:
            estimator.check_sampler(sampler)
            return task, call_estimate(estimator, sampler, task)
        except (BgbenchError, Unsupported) as error:
            raise SkipTest(str(error)) from error

    def test_returns_a_weighted_ensemble_within_the_budget(self, estimator: AbstractEstimator) -> None:
        """On every analytic system: finite points, weights that are not all zero, at most the budget."""
        for name in WIDTHS:
            task, estimate = self._estimate(estimator, name)
            ensemble = estimate.ensemble
            _demand(ensemble.n_samples > 0, f"returned no points of {name}")
            _demand(bool(torch.isfinite(ensemble.x).all()), f"returned points of {name} that are not finite")
            _demand(bool(torch.isfinite(ensemble.weights).all()), f"weights of {name} that are not finite")
            _demand(task.oracle.remaining >= 0, "budget passed")

    def test_is_reproducible(self, estimator: AbstractEstimator) -> None:
        """The same seed gives the same ensemble."""
        first, again = (self._estimate(estimator, "analytic:harmonic")[1].ensemble for _ in range(2))
        alike = torch.equal(first.x, again.x) and torch.equal(first.log_w, again.log_w)
        _demand(alike, "the same seed gave another ensemble")

    def test_leaves_globals_alone(self, estimator: AbstractEstimator) -> None:
        """Generators, threads, dtype, standard output and the tensors it is handed are as they were."""
        with _guarded(analytic_task("analytic:harmonic", self.budget)):
            self._estimate(estimator, "analytic:harmonic")

    def test_energies_are_those_of_the_points(self, estimator: AbstractEstimator) -> None:
        """`u` of the ensemble belongs to the points beside it."""
        task, estimate = self._estimate(estimator, "analytic:harmonic")
        truth = AnalyticEnergy(task.system).energy(estimate.ensemble.x.double())
        weighted = estimate.ensemble.weights > 0
        gap = float((estimate.ensemble.u.double() - truth)[weighted].abs().max())
        _demand(gap <= 1e-3, f"energies of the ensemble are {gap:.2g} kT off those of its points")


class EstimatorPluginLaws:
    """Every estimator as it is registered: it refuses options that it does not have.

    Needs a fixture `plugin`, the `bgbench.EstimatorPlugin` that the hook returns.

    >>> from bgbench.core.plugins import plugins
    >>> EstimatorPluginLaws().test_refuses_an_unknown_option(plugins().estimators["snis"])
    """

    def test_refuses_an_unknown_option(self, plugin: EstimatorPlugin) -> None:
        """A misspelt `--set estimator.` would otherwise run the benchmark with the default, in silence."""
        _demand_refusal(plugin.name, plugin.build)

    def test_describes_its_options(self, plugin: EstimatorPlugin) -> None:
        """`options` is the dataclass that `build` reads, with a docstring below each field."""
        _demand_descriptions(plugin.options)

    def test_weights_are_of_the_kind_it_declares(self, plugin: EstimatorPlugin) -> None:
        """`weights="importance"` means log w = −u − log q up to a constant, `equal` means all alike."""
        if plugin.weights == "other":
            return
        _, estimate = EstimatorLaws()._estimate(plugin.build({}), "analytic:harmonic")
        log_w, u, log_q = estimate.ensemble.log_w, estimate.ensemble.u, estimate.proposal.log_q
        wanted = torch.zeros_like(log_w)
        if plugin.weights == "importance":
            if log_q is None or len(log_q) != len(u):
                return
            wanted = -u.double() - log_q.double()
        gap = log_w.double() - wanted.double()
        gap = gap[torch.isfinite(gap)]
        spread = float(gap.max() - gap.min()) if len(gap) else 0.0
        _demand(
            spread <= 1e-3, f"declares weights='{plugin.weights}', and log w is {spread:.2g} nats off that"
        )


class MetricPluginLaws:
    """Every metric: finite numbers under its own name, reproducible, better for better samples.

    Needs a fixture `plugin`, the `bgbench.MetricPlugin` that the hook returns. Judged are frames of one half
    of a reference by the other half, and the same frames with noise: of a system with known answers, or of AA
    where the metric needs atoms.

    Attributes:
        n_samples: frames on each side.
        wider: standard deviations of each coordinate that the noise has.

    >>> from bgbench.core.plugins import plugins
    >>> MetricPluginLaws().test_ranks_exact_samples_before_noisy_ones(plugins().metrics["energy_w2"])
    """

    n_samples = 400
    wider = 2.0

    def _case(self, plugin: MetricPlugin, exact: bool = True) -> MetricCase:
        system = peptide("AA") if plugin.needs_atoms else analytic_system("analytic:harmonic")
        energy: AbstractEnergy = BatchedEnergy(system) if plugin.needs_atoms else AnalyticEnergy(system)
        truth = find_reference(system)
        one, other = (
            replace(
                half,
                x=half.x[: self.n_samples],
                u=half.u[: self.n_samples],
                replica=half.replica[: self.n_samples],
            )
            for half in truth.halves()
        )
        generator = torch.Generator().manual_seed(0)
        noise = self.wider * one.x.std(0) * torch.randn(one.x.shape, generator=generator, dtype=one.x.dtype)
        x = one.x if exact else one.x + noise
        estimate = Estimate(Ensemble.unweighted(x, energy.energy(x)), Proposal(x))
        options = read_protocol(plugins().protocols["bgbench@1"]).options
        return MetricCase(system, estimate, other, self.n_samples, generator, options)

    def _compute(self, plugin: MetricPlugin, exact: bool = True) -> Mapping[str, float]:
        return plugin.compute(self._case(plugin, exact))

    def test_gives_finite_numbers_under_its_own_name(self, plugin: MetricPlugin) -> None:
        """A mapping of names to floats, the score under the metric's name; or an empty one."""
        values: object = self._compute(plugin)
        _demand(
            isinstance(values, Mapping), f"compute returned {values!r}; return {{'{plugin.name}': score}}"
        )
        if not isinstance(values, Mapping) or not values:
            return
        _demand(plugin.name in values, f"returned {', '.join(map(str, values))} and no '{plugin.name}'")
        for name, value in values.items():
            number = isinstance(value, (int, float)) and math.isfinite(value)
            _demand(number, f"'{name}' is {value!r}, not a finite number")

    def test_is_reproducible(self, plugin: MetricPlugin) -> None:
        """The same case gives the same numbers: every random number is of `case.generator`."""
        first, again = self._compute(plugin), self._compute(plugin)
        _demand(dict(first) == dict(again), f"the same case gave {dict(first)}, then {dict(again)}")

    def test_leaves_globals_alone(self, plugin: MetricPlugin) -> None:
        """Generators, threads, dtype, standard output and the tensors of the case are as they were."""
        case = self._case(plugin)
        handed = {
            "case.estimate.ensemble.x": case.estimate.ensemble.x,
            "case.reference.x": case.reference.x,
            "case.system.positions": case.system.positions,
        }
        with _as_law(), contained("the metric", handed):
            plugin.compute(case)

    def test_ranks_exact_samples_before_noisy_ones(self, plugin: MetricPlugin) -> None:
        """`better` says which way: exact samples score better than the same ones with noise."""
        exact, noisy = self._compute(plugin), self._compute(plugin, exact=False)
        if not plugin.better or plugin.name not in exact or plugin.name not in noisy:
            return
        gap = (noisy[plugin.name] - exact[plugin.name]) * (1 if plugin.better == "lower" else -1)
        _demand(
            gap > 0,
            f"better='{plugin.better}', and exact samples score {exact[plugin.name]:.3g}, the same ones with "
            f"noise {noisy[plugin.name]:.3g}",
        )


class EnergyPluginLaws:
    """Every energy: forces are its gradient, rows are independent, and what it cannot compute it refuses.

    Needs a fixture `plugin`, the `bgbench.EnergyPlugin` that the hook returns. The system is AA, or one
    particle where the energy refuses peptides.

    >>> from bgbench.core.plugins import plugins
    >>> EnergyPluginLaws().test_forces_are_the_gradient(plugins().energies["analytic"])
    """

    def _energy(self, plugin: EnergyPlugin) -> tuple[AbstractEnergy, Tensor]:
        generator = torch.Generator().manual_seed(0)
        for system in (peptide("AA"), analytic_system("analytic:harmonic")):
            try:
                energy = plugin.build(system)
            except BgbenchError:
                continue
            noise = torch.randn(3, system.n_atoms, 3, generator=generator, dtype=torch.float64)
            return energy, system.positions.double() + 0.002 * noise
        raise SkipTest(f"{plugin.name} refuses AA and analytic:harmonic")

    def test_energies_are_finite_and_one_a_conformer(self, plugin: EnergyPlugin) -> None:
        """Near the start structure; an energy that is infinite there can weight nothing."""
        energy, x = self._energy(plugin)
        with _as_law():
            u = energy.energy(x)
        _demand(bool(torch.isfinite(u).all()), f"energies near the start structure are {u.tolist()}")

    def test_rows_are_independent(self, plugin: EnergyPlugin) -> None:
        """The energy of a conformer does not depend on those beside it."""
        energy, x = self._energy(plugin)
        together, alone = (
            energy.energy(x).double(),
            torch.cat([energy.energy(row[None]) for row in x]).double(),
        )
        gap = float((together - alone).abs().max())
        _demand(gap <= 1e-3 * (1 + float(alone.abs().max())), f"one conformer alone has u {gap:.2g} kT off")

    def test_forces_are_the_gradient(self, plugin: EnergyPlugin) -> None:
        """−∂u/∂x in kT/nm, against a central difference along a random direction."""
        energy, x = self._energy(plugin)
        u, force = energy.energy_and_force(x)
        _demand(
            torch.allclose(u.double(), energy.energy(x).double(), rtol=1e-4, atol=1e-2),
            "energy and energy_and_force give different energies",
        )
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
        step = 1e-4 * direction / direction.flatten(1).norm(dim=1)[:, None, None]
        expected = (energy.energy(x - step) - energy.energy(x + step)).double() / 2
        claimed = (force.double() * step).sum((1, 2))
        gap = float((claimed - expected).abs().max())
        _demand(
            gap <= 0.05 * float(expected.abs().max()) + 1e-3,
            f"forces give a change of {claimed.tolist()} kT, energies one of {expected.tolist()}",
        )

    def test_leaves_globals_alone(self, plugin: EnergyPlugin) -> None:
        """Generators, threads, dtype, standard output and the tensors it is handed are as they were."""
        energy, x = self._energy(plugin)
        with _as_law(), contained("the energy", {"x": x}):
            energy.energy_and_force(x)


class SuiteLaws:
    """Every suite: it can be read, and all that it names is there.

    Needs a fixture `path`, the file that the hook returns.

    >>> from bgbench.core.plugins import plugins
    >>> SuiteLaws().test_names_what_exists(plugins().suites["dipeptides-mini@1"])
    """

    def test_names_what_exists(self, path: Path) -> None:
        """Systems can be built, energy and protocol are registered, and no system is there twice."""
        with _as_law():
            suite = read_suite(path)
            known = plugins()
            known.energies[suite.energy]
            known.protocols[suite.protocol]
            for name in suite.systems:
                find_member(suite, name)
        _demand(len(set(suite.systems)) == len(suite.systems), f"{path.name} lists a system twice")


class ProtocolLaws:
    """Every protocol: it can be read, and every metric that it names is registered.

    Needs a fixture `path`, the file that the hook returns.

    >>> from bgbench.core.plugins import plugins
    >>> ProtocolLaws().test_names_what_exists(plugins().protocols["bgbench@1"])
    """

    def test_names_what_exists(self, path: Path) -> None:
        """Its metrics are registered."""
        with _as_law():
            for name in read_protocol(path).metrics:
                plugins().metrics[name]


LAW_BOOKS: Mapping[str, tuple[type, ...]] = {
    "samplers": (SamplerPluginLaws, SamplerLaws),
    "densities": (DensitySamplerLaws,),
    "estimators": (EstimatorPluginLaws, EstimatorLaws),
    "metrics": (MetricPluginLaws,),
    "energies": (EnergyPluginLaws,),
    "suites": (SuiteLaws,),
    "protocols": (ProtocolLaws,),
}
"""The law books of each kind, and beside those of samplers that of samplers with a density."""


def check(
    name: str,
    *,
    kind: str = "",
    options: Mapping[str, object] | None = None,
    seconds: float = 60.0,
    fresh_process: bool = True,
    advanced: Callable[[str], None] = lambda law: None,
) -> CheckReport:
    """Run every law of its kind against an installed plugin: `bgbench check NAME`.

    Args:
        name: of a registered sampler, estimator, metric, energy, suite or protocol.
        kind: `samplers`, `estimators` …, where the name is that of several kinds.
        options: that the sampler or estimator is built with.
        seconds: after which no further law is begun; those left are skipped.
        fresh_process: whether a sampler is built in a process of its own, too, as in a worker.
        advanced: called with the name of each law before it runs.

    Returns:
        What was found: `passed`, and a finding for each law with what failed, why it matters and what to
        change.

    Raises:
        BgbenchError: for a name that is not registered.

    >>> report = check("energy_w2")
    >>> report.passed, len(report.findings)
    (True, 4)
    """
    words = {key: str(value) for key, value in (options or {}).items()}
    return check_plugin(name, LAW_BOOKS, kind, words, seconds, fresh_process, advanced)


UNKNOWN_OPTION = "no_such_option"
"""The option with which laws build a plugin."""


def _demand_refusal(name: str, build: Callable[[Mapping[str, str]], object]) -> None:
    try:
        build({UNKNOWN_OPTION: "1"})
    except BgbenchError as error:
        _demand(UNKNOWN_OPTION in str(error), f"{name} refuses an unknown option without naming it: {error}")
    except Exception as error:
        raise AssertionError(
            f"{name} fails on an unknown option with {type(error).__name__}, not BgbenchError: {error}"
        ) from error
    else:
        raise AssertionError(
            f"{name} accepts --set {UNKNOWN_OPTION}=1; read options with bgbench.parse_options"
        )


def _demand_descriptions(options: type | None) -> None:
    if options is not None:
        dumb = [option.name for option in describe_options(options) if not option.meaning]
        _demand(not dumb, f"option {', '.join(dumb)} has no docstring below its field in {options.__name__}")


@contextmanager
def _as_law() -> Iterator[None]:
    """A refusal of the core inside the block is a law that does not hold."""
    try:
        yield
    except (BgbenchError, BrokenContract, ValueError) as error:
        raise AssertionError(str(error)) from error


@contextmanager
def _guarded(task: Task) -> Iterator[None]:
    """What is global, and the start structure of the task, is as it was after the block."""
    with _as_law(), contained(tensors={"task.system.positions": task.system.positions}):
        yield


def _demand(holds: bool, complaint: str) -> None:
    if not holds:
        raise AssertionError(complaint)
