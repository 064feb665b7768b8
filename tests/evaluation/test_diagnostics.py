"""Diagnostics say what failed and why, and never end a cell that has been judged."""

import pytest
import torch

import bgbench
from bgbench import find_reference, peptide
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.evaluation import diagnostics
from bgbench_controls import Prior


@pytest.fixture
def run_prior(own_references, tmp_path):
    """Runs the prior on the made-up reference of AA and returns its record."""
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 1\n")

    def run():
        return bgbench.run(
            "prior", suite=str(suite), out=tmp_path / "run", workers=0, tracking_uri="none"
        ).records[0]

    return run


def refuse_reference_frames(cause):
    """A `log_prob` of the prior that raises `cause` for frames of the reference and for nothing else."""
    own, frames = Prior.log_prob, find_reference(peptide("AA")).x

    def log_prob(self, task, x):
        if x.shape[1:] == frames.shape[1:] and bool((frames == x[0].float()).all((1, 2)).any()):
            raise cause
        return own(self, task, x)

    return log_prob


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (RuntimeError("no density of these frames"), "RuntimeError: no density of these frames"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_density_that_fails_on_reference_frames_leaves_the_cell_judged(
    run_prior, monkeypatch, cause, sentence
):
    monkeypatch.setattr(Prior, "log_prob", refuse_reference_frames(cause))
    record = run_prior()
    assert (record.status, record.error) == ("ok", "")
    assert record.metrics["torus_w2"] > 0
    assert record.diagnostics["failed_diagnostics"] == {"forward": sentence}
    assert "forward" not in record.diagnostics
    assert record.diagnostics["density"]["verified"]


def test_a_spot_check_that_fails_leaves_the_cell_judged(run_prior, monkeypatch):
    class Broken(OpenMMEnergy):
        def _energy(self, x):
            raise RuntimeError("no platform")

    monkeypatch.setattr(diagnostics, "OpenMMEnergy", Broken)
    record = run_prior()
    assert record.status == "ok"
    assert record.diagnostics["failed_diagnostics"] == {"openmm_difference": "RuntimeError: no platform"}
    assert "openmm_difference" not in record.energy
    assert record.energy["backend"]


def test_a_cell_without_failures_names_none(run_prior):
    record = run_prior()
    assert "failed_diagnostics" not in record.diagnostics
    assert record.energy["openmm_difference"] < 0.1


def test_the_forward_view_may_not_touch_what_samplers_may_not(run_prior, monkeypatch):
    own = diagnostics.look_forward

    def seed_first(*words):
        torch.manual_seed(0)
        return own(*words)

    monkeypatch.setattr(diagnostics, "look_forward", seed_first)
    record = run_prior()
    assert record.status == "ok"
    assert "global generator of torch" in record.diagnostics["failed_diagnostics"]["forward"]
