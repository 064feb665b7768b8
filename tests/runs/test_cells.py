"""Whatever a plugin does, its cell has a record, and the run goes on."""

import asyncio

import pytest

from bgbench import AbstractEstimator, AbstractSampler, Card, Ensemble, Estimate, Proposal
from bgbench.runs.cells import execute
from bgbench.runs.runfolder import RunFolder, new_plan


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Raises(AbstractSampler):
    card = Card("raises")

    def __init__(self, error):
        self.error = error

    def sample(self, task, n_samples):
        raise self.error


class Says(AbstractEstimator):
    """Gives these diagnostics with copies of the start structure."""

    def __init__(self, diagnostics):
        self.diagnostics = diagnostics

    def estimate(self, sampler, task):
        x = task.system.positions.repeat(task.n_samples, 1, 1)
        x = x + 0.1 * torch_noise(task, x)
        return Estimate(Ensemble.unweighted(x, task.oracle.energy(x)), Proposal(x), self.diagnostics)


def torch_noise(task, x):
    return x.new_empty(x.shape).normal_(generator=task.generator)


@pytest.fixture
def folder(tmp_path, make_cell, analytic_suite):
    system = "analytic:harmonic"
    cell = make_cell(
        system=system,
        suite=str(analytic_suite),
        energy="analytic",
        estimator="none",
        sampler="prior",
        budget=8,
    )
    return RunFolder.create(tmp_path / "run", new_plan([cell], ""))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (asyncio.CancelledError(), "CancelledError: "),
        (GeneratorExit("left"), "GeneratorExit: left"),
        (Speechless(), "Speechless: (its message cannot be shown)"),
        (ValueError("not \udc80 text"), "ValueError: not \\udc80 text"),
    ],
)
def test_no_exception_ends_the_run(folder, error, text, monkeypatch):
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_sampler", lambda name, options: Raises(error))
    record = execute(folder.plan.cells[0], folder)
    assert (record.status, record.error, record.phase) == ("crash", text, "sampling")
    assert [one.error for one in folder.records()] == [text]
    assert folder.traceback_path(record.cell).read_text()


def test_an_interrupt_ends_the_run(folder, monkeypatch):
    sampler = Raises(KeyboardInterrupt())
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_sampler", lambda name, options: sampler)
    with pytest.raises(KeyboardInterrupt):
        execute(folder.plan.cells[0], folder)


def test_diagnostics_that_no_file_can_hold_fail_their_cell_alone(folder, monkeypatch):
    itself = {}
    itself["me"] = itself
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda name, options: Says(itself))
    record = execute(folder.plan.cells[0], folder)
    assert record.status == "crash"
    assert record.error.startswith("RecursionError")
    assert folder.records()[0].arrays is None


def test_lone_surrogates_in_diagnostics_are_written_as_escapes(folder, monkeypatch):
    said = Says({"\udc80": "\udc81"})
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_estimator", lambda name, options: said)
    record = execute(folder.plan.cells[0], folder)
    assert record.status == "ok", record.error
    assert folder.records()[0].diagnostics["\\udc80"] == "\\udc81"
