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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractSampler,
    Conventions,
    Invertible,
    Task,
    refuse_unsupported,
)
from bgbench.core.calls import call_latent, call_log_prob, call_sample
from bgbench.core.elsewhere import elsewhere
from bgbench.core.errors import BgbenchError, Unsupported
from bgbench.core.hookspecs import EstimatorPlugin, SamplerPlugin
from bgbench.core.types import Card, Proposal
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.audit import audit
from bgbench.systems.analytic import AnalyticEnergy, analytic_system
from bgbench.systems.peptides import peptide

__all__ = [
    "WIDTHS",
    "DensitySamplerLaws",
    "EstimatorPluginLaws",
    "SamplerLaws",
    "SamplerPluginLaws",
    "Wide",
    "analytic_task",
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
        task = peptide_task()
        proposal = sampler.sample(task, self.n_samples)
        _demand(tuple(proposal.x.shape) == (self.n_samples, task.system.n_atoms, 3), "wrong shape")
        _demand(bool(torch.isfinite(proposal.x).all()), "positions that are not finite")
        _demand(task.oracle.remaining >= 0, "budget passed")

    def test_is_reproducible_and_follows_its_generator(self, sampler: AbstractSampler) -> None:
        """The same seed gives the same samples, another seed others."""
        first, again, other = (
            sampler.sample(peptide_task(seed=seed), self.n_samples).x for seed in (0, 0, 1)
        )
        _demand(torch.equal(first, again), "the same seed gave other samples")
        _demand(not torch.equal(first, other), "another seed gave the same samples")

    def test_leaves_globals_alone(self, sampler: AbstractSampler) -> None:
        """Global generator, threads and dtype are as they were."""
        before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
        sampler.sample(peptide_task(), self.n_samples)
        _demand(torch.equal(before[0], torch.get_rng_state()), "drew from the global generator")
        _demand(
            before[1:] == (torch.get_num_threads(), torch.get_default_dtype()), "changed threads or dtype"
        )

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
            proposal = sampler.draw(task, self.n_samples)
            log_q = sampler.log_prob(task, proposal.x)
            _demand(proposal.log_q is not None, "draw gives no log_q")
            if proposal.log_q is not None:
                gap = float((log_q - proposal.log_q).abs().max())
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
        failed = [check for check in checks if not check.passed]
        _demand(not failed, f"the density fails its audit: {failed}")

    def test_chunks_are_one_sequence(self, sampler: AbstractDensitySampler) -> None:
        """`sample` in chunks returns as many as asked for, with their densities."""
        proposal = sampler.sample(peptide_task(), self.n_samples)
        _demand(proposal.log_q is not None and len(proposal.log_q) == self.n_samples, "chunks lost samples")


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


class EstimatorPluginLaws:
    """Every estimator as it is registered: it refuses options that it does not have.

    Needs a fixture `plugin`, the `bgbench.EstimatorPlugin` that the hook returns.

    >>> from bgbench.core.plugins import plugins
    >>> EstimatorPluginLaws().test_refuses_an_unknown_option(plugins().estimators["snis"])
    """

    def test_refuses_an_unknown_option(self, plugin: EstimatorPlugin) -> None:
        """A misspelt `--set estimator.` would otherwise run the benchmark with the default, in silence."""
        _demand_refusal(plugin.name, plugin.build)


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


def _demand(holds: bool, complaint: str) -> None:
    if not holds:
        raise AssertionError(complaint)
