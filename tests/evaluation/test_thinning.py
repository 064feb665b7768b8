"""Runs of more draws than are judged: few conformers are stored, and every number comes out of them again."""

import numpy as np
import pytest

import bgbench
from bgbench.core.abstract import Thinning
from bgbench.evaluation.bench import open_bench
from bgbench.evaluation.protocols import Protocol, get_protocol
from bgbench.leaderboard.recompute import draws, energies, shapes, thinning, weights
from bgbench.reports.curves import measured
from bgbench.reports.replay import replay, verify
from bgbench.runs.records import read_arrays
from bgbench.runs.runfolder import RunFolder


class Shaken(bgbench.AbstractDensitySampler):
    """Normal around the start structure; of each 128 draws, 16 are one conformer."""

    chunk = 128

    def draw(self, task, n_samples):
        x = task.system.positions + 0.004 * task.normal(n_samples, task.system.n_atoms, 3)
        x[::8] = x[0]
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        return -0.5 * ((x - task.system.positions) / 0.004).square().sum((1, 2))


RULES = "summary: small\nn_samples: 200\nmost_frames: 200\nmetrics: [ess, energy_w2, torus_w2, validity]\n"
CUT = "conventions: {com: chi, handedness: flip}\nweights: resampled\ncut: drop\n"


@pytest.fixture
def thinned(tmp_path, monkeypatch):
    """A run of 1,024 draws, of which 200 conformers are judged, by a protocol of these rules."""
    monkeypatch.setattr("bgbench.estimators.snis.BLOCK", 256)
    monkeypatch.setattr("bgbench.evaluation.evaluate.build_sampler", lambda name, options: Shaken())

    def run(rules):
        protocol = tmp_path / "small@1.yaml"
        protocol.write_text(RULES + "headline: [torus_w2]\n" + rules)
        choices = {"estimator": "snis", "protocol": str(protocol), "only": ("AA",), "budget": 1024}
        bgbench.run("prior", seeds=1, workers=0, tracking_uri="none", out=tmp_path / "run", **choices)
        return RunFolder.open(tmp_path / "run")

    return run


@pytest.mark.parametrize("rules", ["", CUT])
def test_few_conformers_are_stored_and_all_is_replayed_from_them(thinned, rules):
    folder = thinned(rules)
    (record,) = folder.records()
    assert record.status == "ok", record.error
    arrays = read_arrays(folder.arrays_path(record.cell), record.arrays)
    shapes = {name: values.shape for name, values in arrays.items()}
    n, k = 1024, 200
    assert shapes == {"x": (k, 23, 3), "at": (k,), "group": (k,)} | dict.fromkeys(
        ("u", "log_w", "log_q", "faults"), (n,)
    )
    assert record.budget.used == n
    assert record.metrics["unique_fraction"] == 1 - 15 / 128
    # ESS is of all draws, the copies among them counted; effective points count each conformer once.
    w = np.exp(arrays["log_w"] - arrays["log_w"].max())
    assert record.metrics["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum() / n)
    assert verify(folder) == []
    assert replay(folder) == []


def test_a_curve_is_made_of_the_draws_that_there_were_by_then(thinned):
    folder = thinned("")
    points = measured(folder, list(folder.records()))
    assert [point.evaluations for point in points] == [100, 1000, 1024]
    assert all(point.metrics["torus_w2"] > 0 for point in points)
    (record,) = folder.records()
    arrays = read_arrays(folder.arrays_path(record.cell), record.arrays)
    w = np.exp(arrays["log_w"][:100] - arrays["log_w"][:100].max())
    assert points[0].metrics["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum() / 100)


def test_protocols_of_version_2_judge_ten_thousand_conformers_and_rank_by_the_distance():
    for name in ("bgbench@2", "paper@2"):
        protocol = get_protocol(name)
        assert protocol.thinning == Thinning(10_000, protocol.cut)
        assert protocol.score_for_ranking("torus_w2", 0.5, {"torus_w2": 0.3}) == 0.5
    assert get_protocol("bgbench@1").thinning is None
    with pytest.raises(bgbench.BgbenchError, match="most_frames"):
        Protocol("mine", 1, "", 100, ("ess",), ("ess",), most_frames=50)


def test_the_board_checks_what_a_thinned_run_stores(thinned):
    folder = thinned("")
    (record,) = folder.records()
    stored = read_arrays(folder.arrays_path(record.cell), record.arrays)
    bench = open_bench(record.cell, folder.path, judged_by=record.reference)

    def complaints(**changes):
        arrays = {**stored, **changes}
        return [
            problem.text
            for check in (shapes, thinning, draws, weights)
            for problem in check(record, arrays, bench)
        ]

    assert complaints() == []
    assert energies(stored, bench, record.arrays.sha256).fault == ""
    lightest = np.argsort(stored["log_w"])[:200].astype(np.int32)
    assert "the stored conformers are not drawn by the weights of the draws" in complaints(at=lightest)
    assert complaints(at=stored["at"] + 1024)[0].startswith("`at` names no draw")
    assert complaints(x=-stored["x"])[0].endswith("conformers have other faults than are stored")
    heavier = stored["log_w"] + np.linspace(0, 3, 1024)
    assert any("log w is not what −u − log q gives" in text for text in complaints(log_w=heavier))
    swapped = energies({**stored, "x": np.roll(stored["x"], 1, 0)}, bench, record.arrays.sha256)
    assert "are not those of their conformers" in swapped.fault
