"""A sampler that is fitted to one system before it is weighted: charged, used, and asked for less."""

import math
from dataclasses import dataclass

import pytest
import torch

import bgbench
from bgbench.core.calls import call_prepare
from bgbench.core.errors import BrokenContract
from bgbench.core.plugins import Origin, plugins
from bgbench.reports.curves import curve
from bgbench.runs.runfolder import RunFolder
from bgbench.testing import analytic_task

TRIES = 8


@dataclass(frozen=True)
class Normal(bgbench.AbstractDensitySampler):
    """Normal about `centre`: prepared, it stands where its energies were lowest, and asks for forces too."""

    centre: float = 5.0
    prepared: object = None

    def prepare(self, task):
        if self.prepared is not None:
            return self.prepared(task)
        centres = torch.linspace(0.0, 7.0, TRIES, dtype=torch.float64)
        x = torch.zeros(TRIES, 1, 3, dtype=torch.float64)
        x[:, 0, 0] = centres
        u, force = task.oracle.energy_and_force(x)
        assert force.shape == x.shape
        return Normal(float(centres[int(u.argmin())]))

    def draw(self, task, n_samples):
        noise = torch.randn(n_samples, 1, 3, generator=task.generator, dtype=torch.float64)
        x = 0.5 * noise
        x[..., 0] += self.centre
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        z = x.double() / 0.5
        z = torch.cat([z[..., :1] - self.centre / 0.5, z[..., 1:]], -1)
        return (-0.5 * z.square() - math.log(0.5 * math.sqrt(2 * math.pi))).sum((1, 2))


@pytest.fixture
def run(tmp_path):
    """Runs a sampler of the test's own on one analytic system, 200 evaluations: its run folder."""
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: ['analytic:harmonic']\nenergy: analytic\nbudget: 200\nseeds: 1\n")

    def run(sampler, estimator):
        plugin = bgbench.SamplerPlugin("normal", "for tests", build=lambda _: sampler, estimator=estimator)
        plugins().samplers.add("normal", plugin, Origin("theirs", "their-dist", "1"))
        try:
            out = tmp_path / estimator
            bgbench.run("normal", suite=str(suite), out=out, workers=0, tracking_uri="none")
            return RunFolder.open(out)
        finally:
            del plugins().samplers._entries["normal"]

    return run


@pytest.mark.parametrize("estimator", ["snis", "none", "smc-ula"])
def test_a_fit_is_charged_first_and_the_estimator_spends_what_is_left(run, estimator):
    folder = run(Normal(), estimator)
    (record,) = folder.records()
    assert record.status == "ok", record.error
    assert record.budget.used <= 200
    assert record.budget.ledger["tune"]["energy_and_force"]["calls"] == TRIES
    assert record.diagnostics["preparing_evaluations"] == TRIES
    assert record.diagnostics["frames_compared"] == 200 - TRIES


def test_what_is_weighted_and_audited_is_the_fitted_sampler(run):
    (record,) = run(Normal(), "snis").records()
    assert record.metrics["ess"] > 0.05  # at 5 nm from the well no weight would count
    assert record.diagnostics["density"]["verified"], record.diagnostics["density"]


def test_a_curve_has_no_points_that_leave_the_fit_out(run):
    """The first half of the points did not cost half of the budget."""
    points = curve(run(Normal(), "snis"))
    assert [point.evaluations for point in points if point.metrics] == [200]


def test_without_a_fit_nothing_is_different(run):
    (record,) = run(Normal(0.0, prepared=lambda task: Normal(0.0)), "snis").records()
    assert record.diagnostics["frames_compared"] == 200
    assert "preparing_evaluations" not in record.diagnostics
    assert "tune" not in record.budget.ledger


def test_a_fit_beyond_the_budget_ends_the_cell(run):
    def greedy(task):
        task.oracle.energy(torch.zeros(201, 1, 3))

    (record,) = run(Normal(prepared=greedy), "snis").records()
    assert (record.status, record.phase) == ("budget_exhausted", "sampling")


def test_a_fit_that_leaves_nothing_is_one_sentence(run):
    def spend_all(task):
        task.oracle.energy(torch.zeros(200, 1, 3))
        return Normal(0.0)

    (record,) = run(Normal(prepared=spend_all), "snis").records()
    assert (record.status, record.phase) == ("budget_exhausted", "sampling")
    assert "prepare spent all 200 evaluations" in record.error


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        (None, "Normal.prepare returned None; return an AbstractDensitySampler, self if there is nothing to"),
        (3, "Normal.prepare returned "),
    ],
)
def test_prepare_returns_a_sampler(returned, complaint):
    task = analytic_task("analytic:harmonic", budget=10)
    with pytest.raises(BrokenContract, match=complaint):
        call_prepare(Normal(prepared=lambda _: returned), task)
