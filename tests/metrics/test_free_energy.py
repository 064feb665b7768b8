"""Free energies and their errors; references at other temperatures; tables of several estimators."""

import json
import math

import numpy as np
import pytest
import torch

import bgbench
from bgbench import BgbenchError, Ensemble, Estimate, Proposal, find_reference
from bgbench.cli.main import app, guarded
from bgbench.core.types import Reference
from bgbench.metrics.free_energy import basins, difference, free_energies
from bgbench.references.reweight import reweight_reference
from bgbench.reports.comparability import refuse_unlike
from bgbench.reports.compare import labels
from bgbench.runs.runfolder import RunFolder, new_plan


def test_differences_of_independent_points_and_of_families(generator):
    """p = 0.2: ln 4 kT; over 300 repetitions the reported errors are those seen."""
    pulls = {"points": [], "families": []}
    for _ in range(300):
        inside = torch.rand(500, generator=generator) < 0.2
        even = torch.full((500,), 1 / 500, dtype=torch.float64)
        value, error = difference(inside, even, None)
        pulls["points"].append((value - math.log(4)) / error)
        value, error = difference(inside.repeat(3), even.repeat(3) / 3, torch.arange(500).repeat(3))
        pulls["families"].append((value - math.log(4)) / error)
    for values in pulls.values():
        assert abs(np.std(values) - 1) < 4 / math.sqrt(600)
        assert abs(np.mean(values)) < 4 / math.sqrt(300) + 0.05
    nowhere = difference(torch.zeros(500, dtype=torch.bool), even, None)
    assert nowhere == (math.inf, math.inf)


def test_a_difference_is_no_surer_than_its_rarer_state(generator):
    everywhere = torch.ones(10_000, dtype=torch.bool)
    for _ in range(20):
        weights = torch.softmax(3 * torch.randn(10_000, generator=generator, dtype=torch.float64), 0)
        assert difference(everywhere, weights, None) == (-math.inf, math.inf), "sums of weights are rounded"
    for n in range(2, 300):
        assert difference(everywhere[:n], torch.full((n,), 1 / n), None) == (-math.inf, math.inf)
    even = torch.full((10_000,), 1e-4, dtype=torch.float64)
    for visits, finite in ((4, False), (5, True)):
        inside = torch.arange(10_000) < visits
        value, error = difference(inside, even, None)
        assert value == pytest.approx(math.log((10_000 - visits) / visits))
        assert math.isfinite(error) is finite
    walk, block = torch.arange(10_000) < 20, torch.arange(10_000) // 500
    assert difference(walk, even, block)[1] == math.inf, "twenty frames of one visit are one visit"
    log_w = torch.zeros(10_000, dtype=torch.float64)
    log_w[0] = -600.0
    assert difference(torch.arange(10_000) < 1, torch.softmax(log_w, 0), None)[1] == math.inf


def test_the_reference_agrees_with_itself_and_a_missing_state_is_none(alanine, generator):
    reference = find_reference(alanine)
    pick = torch.randint(reference.n_samples, (4000,), generator=generator)
    ensemble = Ensemble.unweighted(reference.x[pick], reference.u[pick])
    differences = free_energies(alanine, Estimate(ensemble, Proposal(ensemble.x)), reference)
    assert set(differences) == {"phi1", "tica"}
    for state in differences.values():
        assert abs(state["pull"]) < 4
        assert 0 < state["error"] < 1
        assert 0 < state["reference_error"] < 1
        assert state["reference"] > 0
    left = torch.tensor([state["reference"] for state in differences.values()])
    assert bool((left > 0).all())
    phi = bgbench.torsions(alanine, ensemble.x).phi[:, 0]
    part = ensemble.take(torch.nonzero(phi < 0)[:, 0])
    missing = free_energies(alanine, Estimate(part, Proposal(part.x)), reference)["phi1"]
    assert missing["delta_f"] == math.inf
    assert missing["pull"] is None


def test_basins_are_the_two_clusters_the_larger_one_second(generator):
    points = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    points[:100] += torch.tensor([10.0, 0.0])
    centres = basins(points)
    assert centres[0, 0] > 9
    assert abs(float(centres[1, 0])) < 1


def test_reweighting_between_temperatures_is_exact_for_a_harmonic_energy(generator):
    """u = y²/2 in d dimensions: at T' the mean of u is d/2 whatever T, and the ESS is known."""
    d, n, ratio = 30, 10_000, 310.0 / 350.0
    system = bgbench.System("d", torch.zeros(d // 3, 3, dtype=torch.float64), temperature=350.0)
    y = torch.randn(n, d, generator=generator, dtype=torch.float64)
    u = 0.5 * y.square().sum(1)
    certificate = {"grade": "gold"}
    reference = Reference("d", y.reshape(n, -1, 3), u, torch.zeros(n), certificate, sha256="abc")
    hot = reweight_reference(reference, 310.0, system)
    reweighting = hot.certificate["reweighted"]
    # E[w]²/E[w²] of w = e^(u (1 − ratio)): (2 ratio − 1)^(d/2) / ratio^d.
    assert reweighting["ess"] == pytest.approx((2 * ratio - 1) ** (d / 2) / ratio**d, rel=0.1)
    assert abs(float(hot.u.mean()) - d / 2) < 4 * math.sqrt(d / 2 / (reweighting["ess"] * n))
    assert torch.allclose(hot.u, 0.5 * ratio * hot.x.square().sum((1, 2)))
    assert (hot.grade, reweighting["from"]) == ("bronze", 310.0)
    assert reweighting["distinct_frames"] < n
    assert hot.sha256 not in ("", "abc")
    with pytest.raises(
        BgbenchError, match=r"less than 0\.1; simulate it with `bgbench data simulate d --temp"
    ):
        reweight_reference(reference, 310.0, system.at(2000.0))


def test_a_reference_at_its_own_temperature_comes_first(alanine, own_references, make_reference):
    with pytest.raises(BgbenchError, match="simulate AA --temperature 350"):
        find_reference(alanine.at(350.0))
    make_reference(own_references / "350K", "AA", temperature=350.0)
    reference = find_reference(alanine.at(350.0))
    assert "reweighted" not in reference.certificate


def test_a_run_at_another_temperature_says_where_its_reference_came_from(tmp_path, capsys):
    def command(*words):
        return guarded(lambda **options: app([str(word) for word in words], **options))

    path = tmp_path / "one@1.yaml"
    path.write_text("systems: [AA]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    out = tmp_path / "hot"
    words = ("--suite", path, "--workers", 0, "--out", out, "--set", "temperature=350")
    assert command("run", "reference", *words, "--tracking-uri", "none") == 0
    assert "AA: reference reweighted from 310 to 350 K, ESS 0." in capsys.readouterr().out
    record = json.loads((out / "cells" / "AA-s0.json").read_text())
    assert record["cell"]["temperature"] == record["reference"]["temperature"] == 350.0
    assert record["reference"]["reweighted"]["from"] == 310.0
    assert record["diagnostics"]["unused"] == 0
    path.write_text("systems: ['analytic:harmonic']\nenergy: analytic\nbudget: 60\nseeds: 1\n")
    assert command("run", "reference", *words[:4], "--set", "temperature=350") == 2
    assert "the temperature of analytic:harmonic is fixed" in capsys.readouterr().err


def test_runs_of_one_sampler_are_labelled_by_their_estimators(tmp_path, make_cell):
    def folder(name, sampler, estimator):
        cell = make_cell(sampler=sampler, estimator=estimator)
        return RunFolder(tmp_path / name, new_plan([cell], "0"))

    runs = [folder("a", "prose", "snis"), folder("b", "prose", "smc-ula"), folder("c", "md", "mcmc")]
    assert labels(runs) == ["prose · snis", "prose · smc-ula", "md"]
    runs.append(folder("d", "prose", "snis"))
    assert labels(runs) == ["prose · snis (a)", "prose · smc-ula", "md", "prose · snis (d)"]
    assert labels([runs[0], runs[3]]) == ["prose (a)", "prose (d)"]
    hot = RunFolder(tmp_path / "e", new_plan([make_cell(temperature=350.0)], "0"))
    cold = RunFolder(tmp_path / "f", new_plan([make_cell()], "0"))
    with pytest.raises(BgbenchError, match=r"the temperature is 350 K in .* and 310 K in"):
        refuse_unlike([hot, cold])
