"""What the author of a sampler gets to read for a slip: one sentence that says what to write instead."""

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch

import bgbench
import bgbench.testing
from bgbench import Estimate, Proposal
from bgbench.core.errors import BgbenchError, BrokenContract
from bgbench.core.plugins import Origin, plugins
from bgbench.energies.meter import MeteredEnergy
from bgbench.reports.figures import draw_cell
from bgbench.reports.headings import forward_ess
from bgbench.runs.runfolder import RunFolder


def shaken(task, n):
    """A little beside the start structure, bonds whole."""
    noise = torch.randn(n, task.system.n_atoms, 3, generator=task.generator, dtype=torch.float64)
    return task.system.positions + 0.001 * noise


def density(task, x):
    return torch.distributions.Normal(task.system.positions, 0.001).log_prob(x).sum((1, 2))


class Slip(bgbench.AbstractSampler):
    def __init__(self, slip):
        self.slip = slip

    def sample(self, task, n_samples):
        return self.slip(task, shaken(task, n_samples))


class DensitySlip(bgbench.AbstractDensitySampler):
    def __init__(self, slip, log_prob=density):
        self.slip, self._log_prob = slip, log_prob

    def draw(self, task, n_samples):
        x = shaken(task, n_samples)
        return self.slip(x, density(task, x))

    def log_prob(self, task, x):
        return self._log_prob(task, x)


@pytest.fixture
def run(own_references, without_figures, tmp_path):
    """Runs a sampler on the made-up reference of AA: its record."""
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 24\nseeds: 1\n")

    def run(build, estimator, out="run"):
        plugin = bgbench.SamplerPlugin("slip", "for tests", build=build, estimator=estimator)
        plugins().samplers.add("slip", plugin, Origin("theirs", "their-dist", "1"))
        try:
            return bgbench.run(
                "slip", suite=str(suite), out=tmp_path / out, workers=0, tracking_uri="none"
            ).records[0]
        finally:
            del plugins().samplers._entries["slip"]

    return run


def unmetered(task, x):
    bgbench.energy(task.system).energy(x)
    return Proposal(x)


def unmetered_in_a_thread(task, x):
    thread = threading.Thread(target=unmetered, args=(task, x))
    thread.start()
    thread.join()
    return Proposal(x)


def unmetered_in_a_pool(task, x):
    with ThreadPoolExecutor(2) as pool:
        return next(iter(pool.map(unmetered, [task, task], [x, x])))


def unmetered_by_the_class(task, x):
    type(bgbench.energy(task.system))(task.system).energy(x)
    return Proposal(x)


class StandIn(bgbench.AbstractEnergy):
    """Made by the sampler itself, of its own."""

    def _energy(self, x):
        return torch.zeros(len(x))

    def _energy_and_force(self, x):
        return self._energy(x), torch.zeros_like(x)


class FreeStandIn(StandIn):
    is_target = False


def stand_in(kind):
    def sample(task, x):
        kind(task.system).energy(x)
        return Proposal(x)

    return sample


def spent(task, x):
    task.oracle.energy(x)
    return Proposal(x)


def one_conformer(task, x):
    try:
        task.oracle.energy(x[0])
    finally:
        assert task.oracle.remaining == 24


@pytest.mark.parametrize(
    ("slip", "sentence"),
    [
        (lambda task, x: x, "Slip.sample returned a float64 tensor; return bgbench.Proposal(x)"),
        (lambda task, x: None, "Slip.sample returned None; return"),
        (lambda task, x: Proposal(x.numpy()), "x must be a torch.Tensor, got a NumPy array"),
        (lambda task, x: Proposal(x.half()), "x must be of float32 or float64, got float16"),
        (lambda task, x: Proposal(torch.cat([x, x])), "returned 48 conformers, 24 were asked for"),
        (lambda task, x: Proposal(x[:0]), "Slip.sample returned no conformer, 24 were asked for; return 24"),
        (
            lambda task, x: Proposal(10 * x),
            "the sampler 'slip' gave bonds of AA that are ten times too long: its positions are in Å",
        ),
        (
            unmetered,
            "the sampler 'slip' evaluated 48 energies and was charged for 24: it must ask task.oracle",
        ),
        (unmetered_in_a_thread, "evaluated 48 energies and was charged for 24"),
        (unmetered_in_a_pool, "evaluated 72 energies and was charged for 24"),
        (unmetered_by_the_class, "evaluated 48 energies and was charged for 24"),
        (stand_in(StandIn), "set is_target = False in the class of a stand-in for"),
        (spent, "sampling left 0 evaluations, and the energies of the 24 conformers take one each"),
        (one_conformer, "x has shape (23, 3), expected (n, 23, 3): one conformer is x[None]"),
    ],
)
def test_a_slip_in_sample_is_one_sentence(run, slip, sentence):
    record = run(lambda options: Slip(slip), "none")
    assert record.status in ("crash", "budget_exhausted")
    assert sentence in record.error
    assert "\n" not in record.error


def in_parts(task, x):
    """Through the meter, by threads of its own."""
    with ThreadPoolExecutor(4) as pool:
        return Proposal(x, u=torch.cat(list(pool.map(task.oracle.energy, x.split(2)))))


@pytest.mark.parametrize("slip", [in_parts, stand_in(FreeStandIn)])
def test_metered_energies_are_charged_once_whichever_thread_asks_and_stand_ins_are_free(run, slip):
    record = run(lambda options: Slip(slip), "none")
    assert (record.status, record.error) == ("ok", "")
    assert record.budget.used == 24


def test_a_thread_that_outlives_its_cell_counts_in_the_next_one(run):
    pools = []

    def sample(task, x):
        pools[:] = pools or [ThreadPool(1)]
        pools[0].apply(unmetered, (task, x))
        return Proposal(x)

    first = run(lambda options: Slip(sample), "none", "first")
    second = run(lambda options: Slip(sample), "none", "second")
    pools[0].terminate()
    assert "evaluated 48 energies" in first.error
    assert "evaluated 48 energies" in second.error


def test_energies_that_another_thread_evaluates_beside_a_cell_are_not_the_samplers(run):
    """As a notebook's, which a user has started."""
    orders, done = threading.Event(), threading.Event()

    def evaluate(system):
        orders.wait(60)
        unmetered(bgbench.testing.peptide_task("AA"), system.positions.expand(100, -1, -1))
        done.set()

    beside = threading.Thread(target=evaluate, args=(bgbench.peptide("AA"),))
    beside.start()

    def sample(task, x):
        orders.set()
        assert done.wait(60)
        return Proposal(x)

    record = run(lambda options: Slip(sample), "none")
    beside.join()
    assert (record.status, record.error) == ("ok", "")


@pytest.mark.parametrize(
    ("slip", "sentence"),
    [
        (lambda x, log_q: (x, log_q), "DensitySlip.draw returned a tuple; return"),
        (lambda x, log_q: Proposal(x), "DensitySlip.draw returned no log_q; return Proposal(x, log_q)"),
        (lambda x, log_q: Proposal(x, log_q.numpy()), "log_q must be a torch.Tensor, got a NumPy array"),
        (
            lambda x, log_q: Proposal(-x, log_q),
            "24 have wrong chirality; 24 are whole mirror images, which --set estimator.handedness=flip",
        ),
    ],
)
@pytest.mark.parametrize("estimator", ["snis", "smc-ula"])
def test_a_slip_in_draw_is_one_sentence(run, slip, sentence, estimator):
    assert sentence in run(lambda options: DensitySlip(slip), estimator).error


def test_densities_that_are_no_number_are_named_where_no_weight_is_left(run):
    record = run(lambda options: DensitySlip(lambda x, log_q: Proposal(x, log_q * torch.nan)), "snis")
    assert "24 have a log_q that is not finite" in record.error


def test_gradients_end_where_the_sampler_does(run):
    """A draw that requires gradients is judged like any other."""
    record = run(lambda options: DensitySlip(lambda x, log_q: Proposal(x.requires_grad_(), log_q)), "none")
    assert record.status == "ok"
    assert record.metrics["torus_w2"] > 0


@pytest.mark.parametrize(
    ("log_prob", "sentence"),
    [
        (lambda task, x: density(task, x).numpy(), "DensitySlip.log_prob returned a NumPy array; return a"),
        (lambda task, x: density(task, x).sum(), "DensitySlip.log_prob returned shape (); return a tensor"),
    ],
)
def test_a_slip_in_log_prob_is_in_the_diagnostics(run, log_prob, sentence):
    record = run(lambda options: DensitySlip(Proposal, log_prob), "snis")
    assert record.status == "ok"
    assert sentence in record.diagnostics["failed_diagnostics"]["forward"]


def test_mirror_images_that_are_judged_are_a_warning(run):
    record = run(lambda options: Slip(lambda task, x: Proposal(-x)), "none")
    assert record.status == "ok"
    (warning,) = record.diagnostics["warnings"]
    assert warning.startswith("100% of the draws have wrong chirality")


def test_a_plugin_that_raises_while_it_is_built_is_one_line_with_the_place(run):
    def build(options):
        raise KeyError("weights\nfor AA")

    with pytest.raises(BgbenchError) as caught:
        run(build, "none")
    message = str(caught.value)
    assert message.startswith("plugin theirs of their-dist: building sampler 'slip' raised KeyError: ")
    assert "(test_mistakes.py, line " in message
    assert "\n" not in message


class EstimatorSlip(bgbench.AbstractEstimator):
    def __init__(self, slip):
        self.slip = slip

    def estimate(self, sampler, task):
        proposal = sampler.sample(task, task.oracle.remaining)
        ensemble = bgbench.Ensemble.unweighted(proposal.x, task.oracle.energy(proposal.x))
        return self.slip(ensemble, proposal)


def with_energies(ensemble, u):
    return bgbench.Ensemble(ensemble.x, u, ensemble.log_w)


@pytest.mark.parametrize(
    ("slip", "sentence"),
    [
        (lambda e, p: None, "EstimatorSlip.estimate returned None; return bgbench.Estimate(ensemble, prop"),
        (lambda e, p: (e, p), "EstimatorSlip.estimate returned a tuple; return bgbench.Estimate(ensemble"),
        (lambda e, p: Estimate(p, p), "returned a Proposal as ensemble; it is a bgbench.Ensemble"),
        (lambda e, p: Estimate(e, e), "returned an Ensemble as proposal; it is a bgbench.Proposal"),
        (lambda e, p: Estimate(e, p, [1]), "returned a list as diagnostics; it is a mapping"),
        (lambda e, p: Estimate(e, p, group=np.arange(24)), "returned a NumPy array as group; give a tensor"),
        (lambda e, p: Estimate(e, p, group=torch.rand(24)), "returned a float32 tensor as group; give a"),
        (lambda e, p: Estimate(e, p, group=torch.arange(3)), "returned shape (3,) as group; give a tensor"),
        (lambda e, p: Estimate(e, p, log_w_uncut=torch.ones(3)), "returned shape (3,) as log_w_uncut; give"),
        (lambda e, p: Estimate(e, p, log_w_uncut=e.u * torch.nan), "returned NaN in log_w_uncut; give"),
        (lambda e, p: Estimate(e.take(torch.arange(48) % 24), p), "returned 48 frames of 24 energies char"),
        (
            lambda e, p: Estimate(with_energies(e, e.u + torch.inf), p),
            "100% of those looked at are not those of their conformers",
        ),
        (lambda e, p: Estimate(with_energies(e, e.u * torch.nan), p), "u holds NaN or -inf: give impossible"),
    ],
)
def test_a_slip_of_an_estimator_is_one_sentence(run, monkeypatch, slip, sentence):
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda *_: EstimatorSlip(slip))
    record = run(lambda options: Slip(lambda task, x: Proposal(x)), "none")
    assert record.status == "crash"
    assert sentence in record.error
    assert "\n" not in record.error


SHORT = {"t": [1.0], "ess": [0.5], "cess": [0.5], "acceptance": [None], "ancestors": [2]}
ANNEALED = {"history": SHORT, "particles": 24, "steps": 1, "resamplings": 0, "resampling": "systematic"}


@pytest.mark.parametrize(
    ("diagnostics", "misfit"),
    [
        ({"handedness": "left"}, "handedness: Input should be a valid dictionary"),
        ({"handedness": {"wrong_hand": "all"}}, "handedness.wrong_hand: Input should be a valid number"),
        ({"handedness": {"mirrored": [1.0]}}, "handedness.mirrored: Input should be a valid number"),
        ({"ess_against_n": 0.5}, "ess_against_n: Input should be a valid dictionary"),
        ({"ess_against_n": {"few": 0.5}}, "ess_against_n.few.[key]: Input should be a valid integer"),
        ({"smc": {"history": {}}}, "smc.history.t: Field required"),
        ({"smc": {**ANNEALED, "steps": "many"}}, "smc.steps: Input should be a valid integer"),
        ({"smc": {**ANNEALED, "history": {**SHORT, "ess": 1.0}}}, "smc.history.ess: Input should be a valid"),
    ],
)
def test_diagnostics_that_cannot_be_read_are_one_sentence(run, monkeypatch, diagnostics, misfit):
    slip = EstimatorSlip(lambda e, p: Estimate(e, p, diagnostics))
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda *_: slip)
    record = run(lambda options: Slip(lambda task, x: Proposal(x)), "none")
    assert "EstimatorSlip.estimate returned diagnostics that cannot be read: " + misfit in record.error
    assert "\n" not in record.error


def test_diagnostics_of_an_estimators_own_are_free_and_those_of_bgbench_are_not_its_own(
    run, monkeypatch, tmp_path
):
    """Whatever else it says, and numbers in tensors, are read by warnings, metrics and figures."""
    diagnostics = {
        "handedness": {"wrong_hand": torch.tensor(0.75), "unrepairable": None, "rule": "mine"},
        "ess_against_n": {10: 0.5, 24: torch.tensor(0.25)},
        "smc": ANNEALED,
        "mine": object(),
        **dict.fromkeys(["forward", "metrics_uncut", "rejudged", "density", "warnings", "unused"], "mine"),
    }
    slip = EstimatorSlip(lambda e, p: Estimate(e, p, diagnostics))
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda *_: slip)
    record = run(lambda options: Slip(lambda task, x: Proposal(x)), "none")
    assert (record.status, record.error) == ("ok", "")
    assert record.metrics["validity_wrong_hand"] == 0.75
    assert record.diagnostics["warnings"][0].startswith("75% of the draws have wrong chirality")
    assert "failed_diagnostics" not in record.diagnostics
    assert not {"forward", "metrics_uncut", "rejudged"} & set(record.diagnostics)
    assert len(draw_cell(RunFolder.open(tmp_path / "run"), record)) >= 3
    assert forward_ess(record) is None


@pytest.fixture
def register():
    """Registers something under a name of its kind, as that of somebody else's plugin, for one test."""
    registered = []

    def register(registry, name, entry):
        registry.add(name, entry, Origin("theirs", "their-dist", "1"))
        registered.append((registry, name))

    yield register
    for registry, name in registered:
        del registry._entries[name]


def test_sentences_name_what_is_registered(run, register, tmp_path):
    """Not only the class, whose name may be that of nothing a user has typed."""
    estimator = bgbench.EstimatorPlugin(
        "shaky", "for tests", build=lambda options: EstimatorSlip(lambda e, p: None)
    )
    register(plugins().estimators, "shaky", estimator)
    error = run(lambda options: Slip(lambda task, x: Proposal(x)), "shaky", "a").error
    assert "plugin theirs of their-dist: estimator 'shaky': EstimatorSlip.estimate returned None" in error
    error = run(lambda options: Slip(lambda task, x: None), "none", "b").error
    assert "plugin theirs of their-dist: sampler 'slip': Slip.sample returned None" in error
    with pytest.raises(BgbenchError, match=r"sampler 'slip' has no density to weight by"):
        run(lambda options: Slip(lambda task, x: None), "snis", "c")


def test_a_sampler_that_was_prepared_keeps_its_name(run):
    class Prepared(Slip):
        def prepare(self, task):
            return Slip(self.slip)

    error = run(lambda options: Prepared(lambda task, x: None), "none").error
    assert "sampler 'slip': Slip.sample returned None" in error


def test_an_estimator_of_a_plugin_is_blamed_beside_the_sampler(run, register):
    def loud(ensemble, proposal):
        print("look at me")
        return Estimate(ensemble, proposal)

    estimator = bgbench.EstimatorPlugin("loud", "for tests", build=lambda options: EstimatorSlip(loud))
    register(plugins().estimators, "loud", estimator)
    error = run(lambda options: Slip(lambda task, x: Proposal(x)), "loud").error
    assert "the sampler 'slip' or the estimator 'loud' wrote 'look at me" in error


def test_frames_that_were_never_evaluated_are_refused(run, monkeypatch):
    class Unpaid(bgbench.AbstractEstimator):
        def estimate(self, sampler, task):
            proposal = sampler.sample(task, task.n_samples)
            task.oracle.energy(proposal.x[:2])
            u = bgbench.energy(task.system, "openmm")._energy(proposal.x)
            return Estimate(bgbench.Ensemble.unweighted(proposal.x, u), proposal)

    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda *_: Unpaid())
    record = run(lambda options: Slip(lambda task, x: Proposal(x)), "none")
    assert "returned 24 different frames, and 2 energies were charged" in record.error


class EnergySlip(bgbench.AbstractEnergy):
    def __init__(self, system, u=None, force=None, description=None):
        super().__init__(system)
        self.u = u or (lambda x: x.sum((1, 2)))
        self.force = force or (lambda x: (self.u(x), x))

    def _energy(self, x):
        return self.u(x)

    def _energy_and_force(self, x):
        return self.force(x)


@pytest.mark.parametrize(
    ("u", "sentence"),
    [
        (lambda x: None, "EnergySlip._energy returned None; return a tensor (2,) of float32 or float64"),
        (lambda x: np.zeros(len(x)), "EnergySlip._energy returned a NumPy array; return a tensor (2,)"),
        (lambda x: torch.zeros(len(x), dtype=torch.int64), "returned an int64 tensor; return a tensor (2,)"),
        (lambda x: torch.zeros(len(x), 1), "EnergySlip._energy returned shape (2, 1); return a tensor (2,)"),
        (lambda x: x.mul_(2).sum((1, 2)), "EnergySlip._energy changed x in place; change a copy"),
    ],
)
def test_a_slip_of_an_energy_is_one_sentence(alanine, u, sentence):
    x = alanine.positions.repeat(2, 1, 1)
    with pytest.raises(BrokenContract) as caught:
        EnergySlip(alanine, u).energy(x)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("force", "sentence"),
    [
        (lambda x: x.sum((1, 2)), "EnergySlip._energy_and_force returned a float64 tensor; return a tuple"),
        (lambda x: (x.sum((1, 2)), x[0, 0]), "_energy_and_force returned shape (3,); return a tensor (2, 2"),
        (lambda x: (x.sum((1, 2)), x.numpy()), "_energy_and_force returned a NumPy array; return a tensor"),
    ],
)
def test_a_slip_of_a_force_is_one_sentence(alanine, force, sentence):
    x = alanine.positions.repeat(2, 1, 1)
    with pytest.raises(BrokenContract) as caught:
        EnergySlip(alanine, force=force).energy_and_force(x)
    assert sentence in str(caught.value)


def test_an_energy_that_describes_itself_by_nothing_is_one_sentence(alanine):
    energy = EnergySlip(alanine)
    energy.describe = lambda: None
    with pytest.raises(BrokenContract, match=r"EnergySlip.describe returned None; return a mapping"):
        MeteredEnergy(energy, 1).describe()


@pytest.fixture
def run_energy(run, monkeypatch):
    """Runs the prior on the batched energy, as that of somebody else's plugin."""

    def run_energy(u):
        origin = Origin("springs", "their-springs", "1", __name__.partition(".")[0])
        plugin = bgbench.EnergyPlugin("batched", "for tests", build=lambda system: EnergySlip(system, u))
        monkeypatch.setitem(plugins().energies._entries, "batched", (plugin, origin))
        monkeypatch.setitem(plugins().origins, "springs", origin)
        return run(lambda options: Slip(lambda task, x: Proposal(x)), "none")

    return run_energy


def test_an_energy_that_raises_is_named(run_energy):
    def fail(x):
        raise KeyError("charges")

    error = run_energy(fail).error
    assert error.startswith("KeyError: 'charges' (plugin springs of their-springs, test_mistakes.py line ")


def test_an_energy_that_draws_global_numbers_is_named_and_not_the_sampler(run_energy):
    error = run_energy(lambda x: x.sum((1, 2)) + torch.rand(len(x))).error
    assert "plugin springs of their-springs: energy 'batched' drew from or seeded the global gen" in error


@pytest.mark.parametrize(
    ("u", "sentence"),
    [
        (lambda x: None, "energy 'springs': EnergySlip._energy returned None; return a tensor (32,)"),
        (lambda x: {}["charges"], "energy 'springs' raised KeyError: 'charges' (test_mistakes.py, line "),
        (lambda x: x.sum((1, 2)) + torch.rand(len(x)), "energy 'springs' drew from or seeded the global gen"),
    ],
)
def test_an_energy_that_fails_on_the_reference_is_named_when_a_run_is_planned(
    register, tmp_path, u, sentence
):
    """Not the reference, which came with a plugin and may be sound."""
    system = bgbench.System("theirs:dot", torch.zeros(1, 3), temperature=300.0)
    x = torch.randn(128, 1, 3, generator=torch.Generator().manual_seed(0))
    reference = bgbench.Reference(
        system="theirs:dot",
        x=x,
        u=x.sum((1, 2)),
        replica=torch.arange(128) % 2,
        certificate={"grade": "gold"},
    )
    register(
        plugins().systems,
        "theirs:dot",
        bgbench.SystemPlugin("theirs:dot", "for tests", build=lambda: system, reference=lambda: reference),
    )
    register(
        plugins().energies,
        "springs",
        bgbench.EnergyPlugin("springs", "for tests", build=lambda system: EnergySlip(system, u)),
    )
    suite = tmp_path / "dot@1.yaml"
    suite.write_text('systems: ["theirs:dot"]\nenergy: springs\nbudget: 20\nseeds: 1\ntemperature: 300\n')
    with pytest.raises(BgbenchError) as caught:
        bgbench.run("prior", suite=str(suite), out=tmp_path / "run", workers=0, tracking_uri="none")
    assert str(caught.value).startswith(f"plugin theirs of their-dist: {sentence}")
