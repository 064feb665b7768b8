"""Intervals that cover, tests that keep their level, ranks that tie, and refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from bgbench import BgbenchError
from bgbench.cli.main import app, guarded
from bgbench.core.files import write_json
from bgbench.reports import page as pages
from bgbench.reports.compare import compare, labels
from bgbench.reports.curves import draw_curves
from bgbench.reports.statistics import (
    FEWEST_VALUES,
    LEVEL,
    can_reject,
    difference,
    holm,
    interval,
    rank_intervals,
    wilcoxon,
)
from bgbench.runs.records import Budget, Record
from bgbench.runs.runfolder import Inputs, RunFolder, new_plan


def test_intervals_cover_the_truth_as_often_as_they_say(rng):
    covered = 0
    for _ in range(200):
        systems = rng.standard_normal((30, 1))
        estimate = interval(systems + 0.3 * rng.standard_normal((30, 3)))
        covered += estimate.low <= 0.0 <= estimate.high
    assert abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_system_with_fewer_seeds_counts_with_those_it_has():
    ragged = np.array([[1.0, 2.0, 3.0], [5.0, 7.0, np.nan], [9.0, np.nan, np.nan]])
    estimate = interval(ragged)
    assert estimate.mean == pytest.approx(17 / 3)
    low, high = t.interval(0.95, 2, 17 / 3, np.std([2.0, 6.0, 9.0], ddof=1) / np.sqrt(3))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))
    assert estimate.these is None, "one seed has no spread"
    both = interval(ragged[:2])
    # Two systems with variances 1/3 and 2/2 of their means: Welch and Satterthwaite.
    squares = np.array([1 / 3, 1.0]) / 4
    freedom = squares.sum() ** 2 / (squares**2 / [2, 1]).sum()
    assert both.these == pytest.approx(t.interval(0.95, freedom, 4.0, np.sqrt(squares.sum())))


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
    a, b = np.array([[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]]), np.array([[2.0, 1.5, 2.5, 2.0, 1.5, 2.5]])
    gap = difference(a, b)
    assert gap.mean == pytest.approx(0.0)
    assert (gap.low, gap.high) == (None, None), "one system says nothing of others"
    assert gap.these[0] < -0.5 < 0.5 < gap.these[1]
    covered = 0
    for _ in range(200):
        noise = rng.standard_normal((2, 30, 5))
        estimate = difference(noise[0] + 0.3 * rng.standard_normal((30, 1)), noise[1])
        covered += estimate.low <= 0.0 <= estimate.high
    assert covered / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    ragged = np.array([[1.0, np.nan, np.nan], [2.0, 3.0, np.nan], [1.0, 2.0, 3.0]])
    assert np.isfinite(difference(ragged, np.zeros((3, 2))).low)


def test_the_fewest_values_are_those_whose_range_holds_the_truth_often_enough(rng):
    """Nothing drawn from the values leaves their range: it has to cover as often as the interval claims."""
    for n, enough in ((FEWEST_VALUES, True), (FEWEST_VALUES - 1, False)):
        sample = rng.standard_normal((20_000, n))
        inside = np.mean((sample.min(axis=1) < 0) & (sample.max(axis=1) > 0))
        assert inside == pytest.approx(1 - 2.0 ** (1 - n), abs=4 * np.sqrt(0.06 / 20_000))
        assert (inside >= LEVEL) == enough


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (1, 6), (2, 1), (4, 1), (5, 1)])
def test_too_few_values_have_no_interval_and_no_rank(shape, rng):
    """One cell had `0.8 to 0.8`, and its rank looked certain."""
    values = rng.standard_normal(shape)
    alone = interval(values)
    assert (alone.low, alone.high, alone.ends("{:.3g}".format)) == (None, None, "")
    assert alone.mean == pytest.approx(values.mean())
    gap = difference(values, values + 1.0)
    assert (gap.mean, gap.low, gap.high) == (pytest.approx(-1.0), None, None)
    many = rng.standard_normal((shape[0], 6))
    assert difference(values, many).low is difference(many, values).low is None
    assert rank_intervals({"a": values, "b": values + 1.0}, "lower") == {}
    assert rank_intervals({"a": values, "b": many}, "lower") == ({"b": (1, 1)} if shape[0] > 1 else {})


@pytest.mark.parametrize("shape", [(2, 3), (6, 1), (4, 3)])
def test_enough_values_have_both(shape, rng):
    values = rng.standard_normal(shape)
    assert interval(values).low < values.mean() < interval(values).high
    assert set(rank_intervals({"a": values, "b": values + 9.0}, "lower")) == {"a", "b"}


@pytest.mark.parametrize("shape", [(2, 3), (4, 3), (6, 2), (30, 3)])
def test_both_intervals_cover_what_they_are_of(shape, rng):
    """The bootstrap over four systems covered 74 to 82 % for new ones, and 98 to 100 % for these."""
    new, these, repetitions = 0, 0, 400
    for _ in range(repetitions):
        difficulty = rng.standard_normal((shape[0], 1))
        estimate = interval(difficulty + 0.5 * rng.standard_normal(shape))
        new += estimate.low <= 0.0 <= estimate.high
        these += estimate.these[0] <= difficulty.mean() <= estimate.these[1]
    error = np.sqrt(0.95 * 0.05 / repetitions)
    assert abs(new / repetitions - 0.95) < 4 * error
    assert abs(these / repetitions - 0.95) < 4 * error


@pytest.mark.parametrize("shape", [(4, 3), (6, 1), (30, 3)])
def test_equal_samplers_are_seldom_ordered(shape, rng):
    """Of six equal samplers some pair was ordered in a fifth of the repetitions over four systems."""
    ordered, repetitions = 0, 200
    for _ in range(repetitions):
        hard = 3 * rng.standard_normal((shape[0], 1))
        ranks = rank_intervals({name: hard + rng.standard_normal(shape) for name in "abcdef"}, "lower")
        ordered += set(ranks.values()) != {(1, 6)}
    assert ordered / repetitions < 0.05 + 4 * np.sqrt(0.05 * 0.95 / repetitions)


def test_rounding_breaks_no_tie():
    """.9999999999999998 against itself had ranks 1 and 2."""
    one = np.full((6, 3), 0.9999999999999998)
    assert rank_intervals({"a": one, "b": np.ones((6, 3)), "c": 2 * one}, "lower") == {
        "a": (1, 1),
        "b": (1, 1),
        "c": (3, 3),
    }
    assert wilcoxon(one, np.ones((6, 3))) == 1.0
    assert difference(one, np.ones((6, 3))).mean == 0.0


def test_tests_are_made_where_they_can_say_something():
    """The smallest p of n systems, all differences of one sign, against what `can_reject` says."""
    for n in range(2, 12):
        smallest = wilcoxon(np.arange(1.0, n + 1)[:, None], np.zeros((n, 1)))
        for pairs in (1, 3, 15):
            adjusted = holm([smallest, *[1.0] * (pairs - 1)])[0]
            assert (adjusted <= 1 - LEVEL) == can_reject(n, pairs), (n, pairs)


def test_equal_samplers_tie(rng):
    tables = {name: rng.standard_normal((10, 3)) for name in "abc"}
    ranks = rank_intervals(tables, "lower")
    assert any(low < high for low, high in ranks.values())


EASY = ("AA", "DI", "GS", "KG", "RL", "WS")


def run_of(folder, make_cell, values, references=None, **changes):
    cells = [make_cell(system=name, **changes) for name in values]
    made = RunFolder.create(folder, new_plan(cells, "hash", inputs=Inputs(references=references or {})))
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
    good = run_of(tmp_path / "good", make_cell, {**dict.fromkeys(EASY, 1.0), "HM": 5.0}, sampler="md")
    weak = run_of(tmp_path / "weak", make_cell, {**dict.fromkeys(EASY, 0.5), "HM": worst}, sampler="prose")
    comparison = compare([good, weak], "torus_w2")
    assert comparison.systems == EASY
    assert comparison.ranks == {"md": (1, 1)}
    assert comparison.pairs == ()
    assert comparison.lacking == {"prose": ("HM",)}
    assert (comparison.rank("prose"), comparison.best_first()) == ("–", ["md", "prose"])
    words = ["compare", str(good.path), str(weak.path), "--metric", "torus_w2"]
    assert guarded(lambda **options: app([*words, "--figure", str(tmp_path / "f.png")], **options)) == 0
    assert "prose is not ranked, and these are in no mean: it has no number for HM" in capsys.readouterr().out
    row = pages._comparison([good, weak], "torus_w2")
    assert row["notes"] == ["prose is not ranked, and these are in no mean: it has no number for HM"]
    assert [line["rank"] for line in row["rows"]] == ["1", "–"]


def test_compare_uses_systems_all_finished_and_refuses_unlike_runs(tmp_path, capsys, make_cell):
    values = dict(zip(EASY, (0.1, 0.2, 0.1, 0.2, 0.1, 0.2), strict=True))
    one = run_of(tmp_path / "one", make_cell, {**values, "HM": 0.3}, sampler="md")
    two = run_of(tmp_path / "two", make_cell, {n: v + 0.3 for n, v in values.items()}, sampler="prose")
    comparison = compare([one, two], "torus_w2")
    assert comparison.systems == EASY
    assert comparison.intervals["md"].mean == pytest.approx(0.15)
    assert comparison.pairs[0].difference.mean == pytest.approx(-0.3)
    assert comparison.ranks == {"md": (1, 1), "prose": (2, 2)}
    assert comparison.lacking == {}, "HM was never asked of the second"
    other = run_of(tmp_path / "other", make_cell, {"AA": 0.1}, sampler="remd", budget=7)
    with pytest.raises(BgbenchError, match=r"the budget is .* and 7 evaluations in .*other; run one of them"):
        compare([one, other], "torus_w2")
    protocol = run_of(tmp_path / "paper", make_cell, {"AA": 0.1}, sampler="remd", protocol="paper@1")
    with pytest.raises(BgbenchError, match=r"the protocol is bgbench@1 in .* and paper@1 in"):
        compare([one, protocol], "torus_w2")
    with pytest.raises(BgbenchError, match="no system has 'validity'"):
        compare([one, two], "validity")
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
        result = {"metrics": {"torus_w2": 0.3}, "budget": Budget(limit=cell.budget, used=1)}
        write_json(two.record_path(cell), Record(id="x", cell=cell, status="ok", **result))
    assert compare([one, two], "torus_w2").systems == ("AA",)


def test_runs_whose_log_q_is_an_estimate_share_no_table_with_exact_ones(tmp_path, make_cell):
    exact, one, two = (
        run_of(tmp_path / name, make_cell, {"AA": 0.1, "DI": 0.2}, sampler=name)
        for name in ("md", "prose", "tbg")
    )
    for path in [*one.path.glob("cells/*.json"), *two.path.glob("cells/*.json")]:
        record = Record.model_validate_json(path.read_text())
        diagnostics = {"density": {"verified": False, "checks": {"exact": {}}}}
        write_json(path, record.model_copy(update={"diagnostics": diagnostics}))
    with pytest.raises(BgbenchError, match=r"the log q is exact in .*md and an estimate in .*tbg"):
        compare([exact, two], "torus_w2")
    assert compare([one, two], "torus_w2").systems == ("AA", "DI")


def test_runs_of_one_cell_have_a_mean_and_nothing_more(tmp_path, make_cell, capsys):
    one = run_of(tmp_path / "one", make_cell, {"AA": 0.8}, sampler="md")
    two = run_of(tmp_path / "two", make_cell, {"AA": 0.9}, sampler="prose")
    comparison = compare([one, two], "torus_w2")
    assert comparison.ranks == {}
    assert comparison.too_few == ["md", "prose"]
    assert (comparison.rank("md"), comparison.pairs[0].difference.low) == ("–", None)
    words = ["compare", str(one.path), str(two.path), "--metric", "torus_w2"]
    assert guarded(lambda **options: app([*words, "--figure", str(tmp_path / "f.png")], **options)) == 0
    printed = capsys.readouterr().out
    assert "0.8 …" not in printed
    assert (
        "md, prose: an interval and a rank need 2 systems and 6 values (systems × seeds) or more" in printed
    )
    assert "md − prose: -0.1 rad\n" in printed
    assert "Wilcoxon" not in printed
    assert "no paired tests: with 1 pair over 1 system, p cannot fall below .05" in printed
    section = pages._comparison([one, two], "torus_w2")
    assert [(row["mean"], row["interval"], row["rank"]) for row in section["rows"]] == [
        ("0.8", "–", "–"),
        ("0.9", "–", "–"),
    ]


def test_runs_in_folders_of_one_name_have_labels_of_their_own(tmp_path, make_cell, monkeypatch):
    """`a/md` and `b/md` were one row, ranked 1, and one curve."""
    values = dict.fromkeys(EASY, 1.0)
    first = run_of(tmp_path / "a" / "md", make_cell, values, sampler="md")
    second = run_of(tmp_path / "b" / "md", make_cell, dict.fromkeys(EASY, 2.0), sampler="md")
    other = run_of(tmp_path / "b" / "prose", make_cell, values, sampler="prose")
    assert labels([first, second, other]) == ["md (a/md)", "md (b/md)", "prose"]
    comparison = compare([first, second], "torus_w2")
    assert {name: interval.mean for name, interval in comparison.intervals.items()} == {
        "md (a/md)": 1.0,
        "md (b/md)": 2.0,
    }
    assert comparison.ranks == {"md (a/md)": (1, 1), "md (b/md)": (2, 2)}
    headings = [
        pages._run(k, name, run)["heading"]
        for k, (name, run) in enumerate(zip(labels([first, second]), (first, second), strict=True))
    ]
    assert len(set(headings)) == 2
    monkeypatch.chdir(tmp_path / "a")
    relative = RunFolder.open(Path("md"))
    assert labels([relative, second]) == ["md (a/md)", "md (b/md)"]
    with pytest.raises(BgbenchError, match="named twice; name each run once"):
        compare([first, relative], "torus_w2")


def test_curves_of_runs_in_folders_of_one_name_are_two_lines(tmp_path, make_cell, monkeypatch):
    from bgbench.reports import curves

    runs = [run_of(tmp_path / name / "md", make_cell, {"AA": 1.0}, sampler="md") for name in "ab"]
    labels = []
    monkeypatch.setattr(
        curves.Axes, "plot", lambda self, *args, **options: labels.append(options.get("label")) or []
    )
    draw_curves(runs, ["torus_w2"], tmp_path / "c.png")
    assert {"md (a/md)", "md (b/md)"} <= set(labels)


def test_runs_judged_on_different_references_share_no_table(tmp_path, make_cell, cli):
    values = dict.fromkeys(EASY, 1.0)
    hashes = dict.fromkeys(EASY, "a" * 64)
    one = run_of(tmp_path / "one", make_cell, values, hashes, sampler="md")
    two = run_of(
        tmp_path / "two", make_cell, values, {**hashes, "DI": "b" * 64, "WS": "c" * 64}, sampler="prose"
    )
    same = run_of(tmp_path / "same", make_cell, values, hashes, sampler="remd")
    assert compare([one, same], "torus_w2").systems == EASY
    match = r"the references of DI, WS differ: the reference of DI is a{12} in .*one and b{12} in .*two"
    with pytest.raises(BgbenchError, match=match):
        compare([one, two], "torus_w2")
    with pytest.raises(BgbenchError, match=match):
        draw_curves([one, two], ["torus_w2"], tmp_path / "c.png")
    for command in ("compare", "curve"):
        code, _, err = cli(command, one.path, two.path, "--figure", tmp_path / "f.png")
        assert code == 2
        assert "references of DI, WS differ" in err
    target = tmp_path / "report.html"
    assert cli("report", one.path, two.path, "--out", target)[0] == 0
    assert "Shown one by one: these runs cannot share a table: the references of DI, WS" in target.read_text()


def test_references_of_an_older_run_are_those_of_its_records(tmp_path, make_cell):
    """Plans did not always hold them."""
    values = dict.fromkeys(EASY, 1.0)
    new = run_of(tmp_path / "new", make_cell, values, dict.fromkeys(EASY, "a" * 64), sampler="md")
    old = run_of(tmp_path / "old", make_cell, values, sampler="prose")
    assert compare([new, old], "torus_w2").systems == EASY, "nothing is known of the old one's"
    for path in old.path.glob("cells/*.json"):
        record = Record.model_validate_json(path.read_text())
        write_json(path, record.model_copy(update={"reference": {"sha256": "d" * 64}}))
    with pytest.raises(BgbenchError, match=r"the references of AA, DI, .* differ"):
        compare([new, old], "torus_w2")
