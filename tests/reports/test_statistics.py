"""Intervals that cover, tests that keep their level, ranks that tie, and refusals."""

import math

import numpy as np
import pytest

from bgbench import BgbenchError
from bgbench.cli.main import app, guarded
from bgbench.core.files import write_json
from bgbench.reports import page as pages
from bgbench.reports.compare import compare
from bgbench.reports.statistics import difference, draws, holm, interval, rank_intervals, wilcoxon
from bgbench.runs.records import Budget, Record
from bgbench.runs.runfolder import RunFolder, new_plan


def test_intervals_cover_the_truth_as_often_as_they_say(rng):
    covered = 0
    for _ in range(200):
        systems = rng.standard_normal((30, 1))
        found = interval(systems + 0.3 * rng.standard_normal((30, 3)))
        covered += found.low <= 0.0 <= found.high
    assert abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_system_with_fewer_seeds_counts_with_those_it_has(rng):
    """As many are drawn as there are: one seed has no spread of its own, and nothing becomes NaN."""
    ragged = np.array([[1.0, 2.0, 3.0], [5.0, 7.0, np.nan], [9.0, np.nan, np.nan]])
    found = draws(ragged)
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx((2 + 6 + 9) / 3, abs=0.05)
    alone = draws(np.array([[5.0, 7.0, np.nan]]))
    assert sorted(set(alone.tolist())) == [5.0, 6.0, 7.0]
    assert np.mean(alone == 6.0) == pytest.approx(0.5, abs=0.05)
    assert set(draws(np.array([[9.0, np.nan]])).tolist()) == {9.0}
    assert interval(ragged).mean == pytest.approx(17 / 3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_paired_difference_sees_what_unpaired_spread_hides(rng):
    hard = 10 * rng.standard_normal((30, 1))
    a, b = hard + 0.1 * rng.standard_normal((30, 3)), hard + 0.5 + 0.1 * rng.standard_normal((30, 3))
    gap = difference(a, b)
    assert gap.high < 0
    assert gap.low < -0.5 < gap.high
    assert wilcoxon(a, b) < 1e-4
    assert wilcoxon(a, a) == 1.0
    ranks = rank_intervals({"a": a, "b": b}, "lower")
    assert ranks == {"a": (1, 1), "b": (2, 2)}
    assert rank_intervals({"a": a, "b": b}, "higher") == {"a": (2, 2), "b": (1, 1)}


def test_a_difference_on_one_system_is_as_unsure_as_its_seeds(rng):
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 1.5, 2.5]])
    gap = difference(a, b)
    assert gap.mean == pytest.approx(0.0)
    assert gap.low <= -0.5
    assert gap.high >= 0.5
    covered = 0
    for _ in range(200):
        noise = rng.standard_normal((2, 30, 5))
        found = difference(noise[0] + 0.3 * rng.standard_normal((30, 1)), noise[1])
        covered += found.low <= 0.0 <= found.high
    assert covered / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    ragged = np.array([[1.0, np.nan, np.nan], [2.0, 3.0, np.nan]])
    assert np.isfinite(difference(ragged, np.array([[0.0], [0.0]])).low)


def test_equal_samplers_tie(rng):
    tables = {name: rng.standard_normal((10, 3)) for name in "abc"}
    ranks = rank_intervals(tables, "lower")
    assert any(low < high for low, high in ranks.values())


def run_of(folder, make_cell, values, **changes):
    cells = [make_cell(system=name, **changes) for name in values]
    made = RunFolder.create(folder, new_plan(cells, "hash"))
    for cell, value in zip(cells, values.values(), strict=True):
        status = "ok" if value is not None else "crash"
        metrics = {"torus_w2": value} if value is not None else {}
        budget = Budget(limit=cell.budget, used=1)
        write_json(
            made.record_path(cell), Record(id="x", cell=cell, status=status, metrics=metrics, budget=budget)
        )
    return made


@pytest.mark.parametrize("worst", [None, math.inf])
def test_a_system_that_a_sampler_could_not_do_costs_it_its_rank(worst, tmp_path, capsys, make_cell):
    """Else clashes and crashes on hard systems would pay: those leave everybody's mean."""
    good = run_of(tmp_path / "good", make_cell, {"AA": 1.0, "DI": 1.0, "HM": 5.0}, sampler="md")
    weak = run_of(tmp_path / "weak", make_cell, {"AA": 0.5, "DI": 0.5, "HM": worst}, sampler="prose")
    found = compare([good, weak], "torus_w2")
    assert found.systems == ("AA", "DI")
    assert found.ranks == {"md": (1, 1)}
    assert found.pairs == ()
    assert found.lacking == {"prose": ("HM",)}
    assert (found.rank("prose"), found.best_first()) == ("–", ["md", "prose"])
    words = ["compare", str(good.path), str(weak.path), "--metric", "torus_w2"]
    assert guarded(lambda **options: app([*words, "--figure", str(tmp_path / "f.png")], **options)) == 0
    assert "prose is not ranked, and these are in no mean: it has no number for HM" in capsys.readouterr().out
    row = pages._compared([good, weak], "torus_w2")
    assert row["lacking"] == ["prose is not ranked: it has no number for HM"]
    assert [told["rank"] for told in row["rows"]] == ["1", "–"]


def test_compare_uses_systems_all_finished_and_refuses_unlike_runs(tmp_path, capsys, make_cell):
    one = run_of(tmp_path / "one", make_cell, {"AA": 0.1, "DI": 0.2, "HM": 0.3}, sampler="md")
    two = run_of(tmp_path / "two", make_cell, {"AA": 0.4, "DI": 0.5}, sampler="prose")
    found = compare([one, two], "torus_w2")
    assert found.systems == ("AA", "DI")
    assert found.intervals["md"].mean == pytest.approx(0.15)
    assert found.pairs[0].difference.mean == pytest.approx(-0.3)
    assert found.ranks == {"md": (1, 1), "prose": (2, 2)}
    assert found.lacking == {}, "HM was never asked of the second"
    other = run_of(tmp_path / "other", make_cell, {"AA": 0.1}, sampler="remd", budget=7)
    with pytest.raises(BgbenchError, match="their budget differs"):
        compare([one, other], "torus_w2")
    protocol = run_of(tmp_path / "paper", make_cell, {"AA": 0.1}, sampler="remd", protocol="paper@1")
    with pytest.raises(BgbenchError, match="their protocol differs"):
        compare([one, protocol], "torus_w2")
    with pytest.raises(BgbenchError, match="no system has 'ess'"):
        compare([one, two], "ess")
    words = [
        "compare",
        str(one.path),
        str(two.path),
        "--metric",
        "torus_w2",
        "--figure",
        str(tmp_path / "f.png"),
    ]
    assert guarded(lambda **options: app(words, **options)) == 0
    printed = capsys.readouterr().out
    assert "Wilcoxon" in printed
    assert (tmp_path / "f.png").stat().st_size > 3000


def test_a_system_with_a_seed_still_to_run_is_left_out(tmp_path, make_cell):
    one = run_of(tmp_path / "one", make_cell, {"AA": 0.1, "DI": 0.2}, sampler="md")
    cells = [make_cell(system=name, seed=seed, sampler="prose") for name in ("AA", "DI") for seed in (0, 1)]
    two = RunFolder.create(tmp_path / "two", new_plan(cells, "hash"))
    for cell in cells[:3]:
        told = {"metrics": {"torus_w2": 0.3}, "budget": Budget(limit=cell.budget, used=1)}
        write_json(two.record_path(cell), Record(id="x", cell=cell, status="ok", **told))
    assert compare([one, two], "torus_w2").systems == ("AA",)


def test_runs_whose_log_q_is_an_estimate_share_no_table_with_exact_ones(tmp_path, make_cell):
    exact, one, two = (
        run_of(tmp_path / name, make_cell, {"AA": 0.1, "DI": 0.2}, sampler=name)
        for name in ("md", "prose", "tbg")
    )
    for path in [*one.path.glob("cells/*.json"), *two.path.glob("cells/*.json")]:
        record = Record.model_validate_json(path.read_text())
        told = {"density": {"verified": False, "checks": {"exact": {}}}}
        write_json(path, record.model_copy(update={"diagnostics": told}))
    with pytest.raises(BgbenchError, match=r"log q is an estimate in .*tbg: compare such"):
        compare([exact, two], "torus_w2")
    assert compare([one, two], "torus_w2").systems == ("AA", "DI")
