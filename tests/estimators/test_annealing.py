"""Annealed SMC on systems with known answers; its schedule, its budget, and the centre of mass."""

import math

import numpy as np
import pytest
import torch

from bgbench import AbstractDensitySampler, AbstractEnergy, BgbenchError, Proposal, System, Task
from bgbench.core.abstract import Conventions
from bgbench.core.errors import NonFinite
from bgbench.energies.meter import MeteredEnergy
from bgbench.estimators.controls import mean_energy
from bgbench.estimators.langevin import TARGET_ACCEPTANCE, LangevinStep, adapt_size
from bgbench.estimators.schedule import conditional_ess, step_by_conditional_ess
from bgbench.estimators.smc import SMC, SMCOptions, repeat_points, split_budget
from bgbench.estimators.weights import mean_and_error
from bgbench.systems.analytic import KINDS, analytic
from bgbench.testing import WIDTHS, Wide, analytic_task

KERNELS = ("ula", "mala")
SEEDS = 20


def annealed(kernel, name, budget, seed=0, **settings):
    """An annealed estimate of an analytic system, its truth, and the pull of its log Z."""
    task = analytic_task(name, budget, seed)
    estimate = SMC(kernel, SMCOptions(**settings)).estimate(Wide(WIDTHS[name]), task)
    diagnostics = estimate.diagnostics
    return estimate, (diagnostics["log_z"] - analytic(name).log_z) / diagnostics["log_z_error"], task


def within_chi_square(pulls):
    """Pulls of unit normals: none beyond 4, and their squares within 4 standard errors of their number."""
    assert max(abs(pull) for pull in pulls) < 4
    assert sum(pull**2 for pull in pulls) < len(pulls) + 4 * math.sqrt(2 * len(pulls))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", KINDS)
def test_smc_recovers_log_z_and_moments(kernel, name):
    """At 2,000 particles: the bias of self-normalised moments, O(1/N), lies well inside their errors."""
    pulls, moments = [], []
    for seed in range(SEEDS):
        estimate, pull, _ = annealed(kernel, name, 32_000, seed, steps=16)
        pulls.append(pull)
        y = estimate.ensemble.x[:, 0].square()
        for axis, truth in enumerate(analytic(name).second_moments):
            value, error = mean_and_error(y[:, axis], estimate.ensemble.weights, estimate.group)
            moments.append((value - float(truth)) / error)
    within_chi_square(pulls)
    assert max(abs(pull) for pull in moments) < 4.5
    assert np.mean(np.square(moments)) < 1 + 4 * math.sqrt(2 / SEEDS)


@pytest.mark.parametrize("scheme", ["stratified", "multinomial"])
def test_every_resampling_scheme_gives_the_same_answer(scheme):
    pulls = [
        annealed("mala", "analytic:double-well", 8000, seed, steps=8, resampling=scheme, threshold=1.0)[1]
        for seed in range(SEEDS)
    ]
    within_chi_square(pulls)


@pytest.mark.parametrize("kernel", KERNELS)
def test_smc_error_shrinks_as_one_over_root_n(kernel):
    name, seeds = "analytic:double-well", 40
    spread, reported = {}, {}
    for n in (100, 1600):
        runs = [annealed(kernel, name, 4 * n, seed, steps=4)[0].diagnostics for seed in range(seeds)]
        errors = np.array([diagnostics["log_z"] for diagnostics in runs]) - analytic(name).log_z
        spread[n] = float(np.std(errors))
        reported[n] = float(np.median([diagnostics["log_z_error"] for diagnostics in runs]))
    # The logarithm of a ratio of two standard deviations: an error of 1/√(2 · seeds) each.
    assert abs(math.log(spread[100] / spread[1600] / 4)) < 4 * math.sqrt(2 / (2 * seeds))
    assert reported[100] / reported[1600] == pytest.approx(4.0, rel=0.3)


def test_unadjusted_steps_are_biased_unless_the_bias_goes_into_the_weights(monkeypatch):
    """Steps far too long, so that nothing but the weights can mend them."""
    monkeypatch.setitem(TARGET_ACCEPTANCE, "ula", 0.7)
    name, settings = "analytic:harmonic", {"steps": 12, "threshold": 0.3}
    plain = [annealed("ula", name, 24_000, seed, correct=False, **settings)[1] for seed in range(8)]
    mended = [annealed("ula", name, 24_000, seed, **settings)[1] for seed in range(8)]
    assert abs(np.mean(plain)) > 4 / math.sqrt(8)
    assert abs(np.mean(mended)) < 4 / math.sqrt(8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_t_goes_from_zero_to_one_without_an_idle_step(kernel, steps):
    estimate, _, task = annealed(kernel, "analytic:harmonic", 10 * steps, steps=steps)
    t = estimate.diagnostics["smc"]["history"]["t"]
    increments = np.diff([0.0, *t])
    assert len(t) == steps
    assert t[-1] == 1.0
    assert (increments > 0).all()
    assert math.fsum(increments) == 1.0
    ledger = task.oracle.ledger
    assert ledger["sample"]["energy_and_force"]["calls"] == 10
    assert ledger.get("refine", {}).get("energy_and_force", {"calls": 0})["calls"] == 10 * (steps - 1)
    assert task.oracle.remaining == 0


def test_one_step_is_importance_sampling():
    estimate, _, _ = annealed("mala", "analytic:harmonic", 500, steps=1)
    from bgbench.estimators.snis import SNIS

    plain = SNIS().estimate(Wide(WIDTHS["analytic:harmonic"]), analytic_task("analytic:harmonic", 500))
    assert torch.allclose(estimate.ensemble.log_w, plain.ensemble.log_w)
    for name in ("log_z", "log_z_error"):
        assert estimate.diagnostics[name] == pytest.approx(plain.diagnostics[name])


@pytest.mark.parametrize(
    ("kernel", "budget"), [("ula", 1), ("ula", 7), ("ula", 10_000), ("mala", 7), ("mala", 10**6 - 1)]
)
def test_no_budget_is_passed_and_what_is_left_is_reported(kernel, budget):
    estimate, _, task = annealed(kernel, "analytic:harmonic", budget)
    smc = estimate.diagnostics["smc"]
    assert task.oracle.used == smc["particles"] * smc["steps"] <= budget
    assert estimate.diagnostics["unused"] == task.oracle.remaining == budget - task.oracle.used
    assert task.oracle.remaining < smc["steps"]
    assert estimate.ensemble.n_samples >= task.n_samples


def test_the_published_numbers_of_particles_and_steps():
    assert split_budget(10**6, SMCOptions()) == (10_000, 100)
    assert split_budget(10**5, SMCOptions()) == (3125, 32)
    assert split_budget(10**6, SMCOptions(particles=5000)) == (5000, 200)
    assert split_budget(10**6, SMCOptions(steps=10)) == (100_000, 10)
    with pytest.raises(BgbenchError, match=r"2000 particles × 10 steps .* budget of 10000"):
        split_budget(10_000, SMCOptions(particles=2000, steps=10))
    with pytest.raises(BgbenchError, match="budget must be at least 1"):
        analytic_task("analytic:harmonic", 0)


def test_mala_is_led_to_its_acceptance():
    history = annealed("mala", "analytic:harmonic", 60_000, steps=60)[0].diagnostics["smc"]["history"]
    assert 0.55 <= np.mean(history["acceptance"][20:-1]) <= 0.60
    assert adapt_size(1.0, 1.0, 0.575) == pytest.approx(3.0)
    assert adapt_size(1.0, 0.0, 0.999) == pytest.approx(1 / 3)


def test_conditional_ess_sets_the_schedule():
    generator = torch.Generator().manual_seed(1)
    rate = 30 * torch.randn(2000, generator=generator, dtype=torch.float64)
    log_w = torch.zeros(2000, dtype=torch.float64)
    t = step_by_conditional_ess(0.2, log_w, rate, 0.8)
    assert conditional_ess(log_w, (t - 0.2) * rate) == pytest.approx(0.8, abs=1e-6)
    assert step_by_conditional_ess(0.2, log_w, torch.zeros(2000, dtype=torch.float64), 0.8) == 1.0
    estimate = annealed("mala", "analytic:double-well", 20_000, schedule="cess", cess=0.95, steps=20)[0]
    history = estimate.diagnostics["smc"]["history"]
    reached = history["t"].index(1.0)
    assert 1 < reached < 19
    assert np.allclose(history["cess"][:reached], 0.95, atol=1e-3)
    assert abs(estimate.diagnostics["log_z"] - analytic("analytic:double-well").log_z) < (
        4 * estimate.diagnostics["log_z_error"]
    )
    assert estimate.diagnostics["unused"] == 0
    too_few = annealed("mala", "analytic:double-well", 300, schedule="cess", cess=0.999, steps=3)[0]
    assert too_few.diagnostics["smc"]["history"]["t"][-1] == 1.0


class Springs(AbstractEnergy):
    """u = Σ |x_i − c|²/(2 s²), blind to where the centre c is."""

    s = 0.05

    def _energy(self, x):
        return (x - x.mean(1, keepdim=True)).square().sum((1, 2)) / (2 * self.s**2)

    def _energy_and_force(self, x):
        return self._energy(x), -(x - x.mean(1, keepdim=True)) / self.s**2

    @property
    def log_z(self):
        """log ∫ e^(−u) g(c) dx for any normalised g."""
        n = self.system.n_atoms
        return 1.5 * math.log(n) + 1.5 * (n - 1) * math.log(2 * math.pi * self.s**2)


class Cloud(AbstractDensitySampler):
    """Atoms normal about a shifted place, so that its centre is not distributed as the one divided out."""

    measure = "shape"
    width, shift = 0.065, 0.02

    def draw(self, task, n_samples):
        noise = torch.randn(n_samples, task.system.n_atoms, 3, generator=task.generator, dtype=torch.float64)
        x = self.width * noise + self.shift
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        n = task.system.n_atoms
        log_q = -0.5 * ((x - self.shift) / self.width).square().sum((1, 2))
        log_q = log_q - 1.5 * n * math.log(2 * math.pi * self.width**2)
        square, sigma = x.mean(1).square().sum(-1), self.width / math.sqrt(n)
        if task.conventions.com == "none":
            return log_q
        if task.conventions.com == "chi":
            constant = math.log(math.sqrt(2) * sigma**3 * math.gamma(1.5))
            return log_q - square.log() + constant + 0.5 * square / sigma**2
        return log_q + 0.5 * square / sigma**2 + 1.5 * math.log(2 * math.pi * sigma**2)


@pytest.mark.parametrize(("kernel", "com"), [("ula", "gaussian"), ("mala", "gaussian"), ("mala", "chi")])
def test_the_centre_of_mass_is_no_part_of_the_answer(kernel, com):
    """The annealing is right for a flow whose centre is not distributed as what is divided out.

    The published χ₃ convention divides by a density of ‖c‖: its integral over space, 4π E[‖c‖²], stays in Z.
    """
    system = System("springs", torch.zeros(4, 3, dtype=torch.float64))
    pulls = []
    for seed in range(SEEDS):
        oracle = MeteredEnergy(Springs(system), 12_000)
        task = Task(system, oracle, torch.Generator().manual_seed(seed), 100, Conventions(com))
        estimate = SMC(kernel, SMCOptions(steps=6)).estimate(Cloud(), task)
        diagnostics = estimate.diagnostics
        truth = Springs(system).log_z
        if com == "chi":
            truth += math.log(4 * math.pi * 3 * Cloud.width**2 / 4)
        pulls.append((diagnostics["log_z"] - truth) / diagnostics["log_z_error"])
        pulls.append((diagnostics["mean_energy"]["value"] - 4.5) / diagnostics["mean_energy"]["error"])
        # Harmonic: u is half its virial, and the control variate leaves nothing to chance.
        assert diagnostics["mean_energy"]["controlled"]["value"] == pytest.approx(4.5, abs=1e-6)
        assert abs(diagnostics["mean_energy"]["virial"]["pull"]) < 4
    within_chi_square(pulls)


def test_centres_stay_where_they_were_drawn(generator):
    x = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    step = LangevinStep(0.1, centred=True)
    y = step.move(x, step.drift(10 * torch.randn(x.shape, generator=generator, dtype=x.dtype)), generator)
    assert torch.allclose(y.mean(1), x.mean(1), atol=1e-12)
    assert not torch.allclose(y, x)
    free = LangevinStep(0.1, centred=False).move(x, torch.zeros_like(x), generator)
    assert not torch.allclose(free.mean(1), x.mean(1), atol=1e-3)


def test_wrong_chirality_has_no_density(alanine):
    """Half the particles start mirrored: they have no weight, or are folded, or flipped at the end."""

    class Both(AbstractDensitySampler):
        measure = "shape"
        chunk = 16

        def draw(self, task, n_samples):
            sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(n_samples)[:n_samples, None, None]
            noise = torch.randn(n_samples, 23, 3, generator=task.generator, dtype=torch.float64)
            x = sign * (task.system.positions + 0.001 * noise)
            return Proposal(x, self.log_prob(task, x))

        def log_prob(self, task, x):
            start = task.system.positions
            gap = torch.stack([(x - hand * start).square().sum((1, 2)) for hand in (1, -1)])
            return torch.logsumexp(-gap / (2 * 0.001**2), 0)

    from bgbench.energies.batched import BatchedEnergy
    from bgbench.systems.chirality import is_wrong

    for rule in ("zero", "fold", "flip"):
        task = Task(
            alanine, MeteredEnergy(BatchedEnergy(alanine, "eager"), 40), torch.Generator().manual_seed(0), 10
        )
        estimate = SMC("mala", SMCOptions(steps=2, handedness=rule)).estimate(Both(), task)
        assert estimate.diagnostics["handedness"]["rule"] == rule
        assert estimate.diagnostics["handedness"]["wrong_hand"] == 0.5
        wrong = is_wrong(alanine, estimate.ensemble.x)
        assert float(estimate.ensemble.weights[wrong].sum()) == 0.0
        assert rule == "zero" or not bool(wrong.any())


def test_copies_share_the_weight_of_their_point():
    index, log_fraction = repeat_points(3, 7)
    assert index.tolist() == [0, 1, 2, 0, 1, 2, 0]
    share = torch.zeros(3, dtype=torch.float64).index_add_(0, index, log_fraction.exp())
    assert torch.allclose(share, torch.full((3,), 7 / 3, dtype=torch.float64))
    assert repeat_points(5, 2)[1].abs().max() == 0.0


def test_the_control_variate_is_unbiased_and_says_when_weights_are_wrong(generator):
    """A quartic well at weights that are right, then wrong."""
    x = 0.7 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    u, log_q = x**4, -0.5 * (x / 0.7) ** 2
    control = 4 * x**4 - 1
    right = mean_energy(u, torch.softmax(-u - log_q, 0), None, control)
    assert right["controlled"]["error"] < 1e-6
    assert right["controlled"]["value"] == pytest.approx(0.25, abs=1e-6)
    assert abs(right["virial"]["pull"]) < 4
    wrong = mean_energy(u, torch.full((20_000,), 1 / 20_000, dtype=torch.float64), None, control)
    assert abs(wrong["virial"]["pull"]) > 10


def test_wrong_options_and_hopeless_particles_say_so():
    with pytest.raises(
        BgbenchError,
        match=r"--set estimator\.partcles=5: estimator smc-ula has no option 'estimator\.partcles'; "
        r"did you mean 'estimator\.particles'\? Its options are estimator\.particles, estimator\.steps",
    ):
        SMC.build("ula", {"partcles": "5"})
    with pytest.raises(BgbenchError, match=r"--set estimator\.steps=many: 'many' is not a whole number"):
        SMC.build("ula", {"steps": "many"})
    with pytest.raises(BgbenchError, match=r"--set estimator\.schedule=odd: 'odd' is not one of even, cess"):
        SMC.build("mala", {"schedule": "odd"})
    with pytest.raises(BgbenchError, match="schedule must be one of even, cess, got 'odd'"):
        SMCOptions(schedule="odd")
    with pytest.raises(BgbenchError, match=r"--set estimator\.threshold must lie between 0 and 1, got 2"):
        SMC.build("mala", {"threshold": "2"})
    assert SMC.build("ula", {"cess": "0.5", "correct": "no"}).options == SMCOptions(cess=0.5, correct=False)

    class Far(Wide):
        def draw(self, task, n_samples):
            x = torch.full((n_samples, 1, 3), 10.0, dtype=torch.float64)
            return Proposal(x, self.log_prob(task, x))

    with pytest.raises(NonFinite, match="none of 10 particles has a finite weight at t = 1"):
        SMC("mala").estimate(Far([1.0, 1.0, 1.0]), analytic_task("analytic:torus-mixture", 10))
