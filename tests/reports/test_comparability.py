"""One value says whether runs can share a table, and in what they differ."""

from dataclasses import FrozenInstanceError

import pytest

from bgbench import BgbenchError
from bgbench.core.files import write_json
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.suites import load_suite
from bgbench.references import superseded
from bgbench.references.superseded import Superseded
from bgbench.reports.breakeven import break_even
from bgbench.reports.comparability import Comparability, caveats, refuse_unlike
from bgbench.reports.compare import compare
from bgbench.reports.curves import draw_curves
from bgbench.runs.records import Budget, Record
from bgbench.runs.runfolder import Inputs, RunFolder, new_plan

SYSTEMS = ("AA", "DI", "GS", "KG", "RL", "WS")


@pytest.fixture
def value(make_cell):
    """The value of a plan of the default suite, with references and with any field of its cells changed."""

    def make(references=None, suite_sha256="", records=(), protocol_sha256="p" * 64, **changes):
        cells = [make_cell(system=name, **changes) for name in references or ("AA",)]
        known = load_suite("dipeptides-mini@1").sha256
        inputs = Inputs(references=references or {}, protocol_sha256=protocol_sha256)
        plan = new_plan(cells, suite_sha256 or known, inputs=inputs)
        return Comparability.of(plan, records)

    return make


def test_it_is_frozen_and_equal_by_content(value):
    one = value({"AA": "a" * 64})
    assert one == value({"AA": "a" * 64}, seed=4, sampler="md", options={"step": "2"})
    assert len({one, value({"AA": "a" * 64})}) == 1
    with pytest.raises(FrozenInstanceError):
        one.budget = 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget": 7}, "the budget is 60 evaluations in A and 7 evaluations in B"),
        ({"protocol": "paper@1"}, "the protocol is bgbench@1 in A and paper@1 in B"),
        ({"temperature": 350.0}, "the temperature is 310 K in A and 350 K in B"),
        ({"energy": "batched"}, "the energy is openmm in A and batched in B"),
        ({"suite": "mine@2"}, "the suite is dipeptides-mini@1 in A and mine@2 in B"),
    ],
)
def test_every_difference_is_a_sentence_with_both_values(value, changes, sentence):
    assert value(budget=60).differences(value(**{"budget": 60, **changes}), "A", "B") == [sentence]


def test_what_the_budget_did_not_pay_for_keeps_runs_apart(value):
    """An uncharged warm-up of 50 ps is five times a budget of 10,000."""
    cell = Cell(
        sampler="md", estimator="mcmc", protocol="bgbench@1", suite="dipeptides-mini@1", system="AA",
        budget=60, seed=0, temperature=310.0, energy="openmm",
    )  # fmt: skip
    paid = Record(id="0", cell=cell, status="ok", budget=Budget(limit=60, used=60), card={"name": "md"})
    free = paid.model_copy(update={"card": {"name": "md", "uncharged_evaluations": 50_000}})
    one, other = value(budget=60, records=(free,)), value(budget=60, records=(paid,))
    assert other == value(budget=60)
    assert one.differences(other, "A", "B") == [
        "the work beyond the budget is 50,000 evaluations in A and none in B"
    ]


def test_all_differences_are_named_at_once(value):
    differences = value(budget=60).differences(value(budget=7, temperature=350.0))
    assert differences == [
        "the budget is 60 evaluations in one run and 7 evaluations in the other",
        "the temperature is 310 K in one run and 350 K in the other",
    ]


def test_one_suite_in_two_versions_of_its_file_is_two(value):
    (sentence,) = value().differences(value(suite_sha256="f" * 64))
    assert sentence.startswith("the suite's file is ")
    assert sentence.endswith(" and ffffffffffff in the other")


def test_one_protocol_in_two_versions_of_its_file_is_two(value):
    (sentence,) = value().differences(value(protocol_sha256="f" * 64), "A", "B")
    assert sentence == "the protocol's file is pppppppppppp in A and ffffffffffff in B"
    other = value(protocol="paper@1", protocol_sha256="f" * 64)
    assert value().differences(other) == ["the protocol is bgbench@1 in one run and paper@1 in the other"], (
        "files of two protocols differ, of course"
    )
    assert value(protocol_sha256="").differences(value()) == []
    assert value({"AA": "a" * 64}, protocol_sha256="").unrecorded == ("the protocol's file",)


def test_references_count_where_both_have_the_system(value):
    one, other = value({"AA": "a" * 64, "DI": "b" * 64}), value({"DI": "b" * 64, "WS": "c" * 64})
    assert one.differences(other) == []
    assert one.differences(value({"DI": "d" * 64})) == [
        "the reference of DI is bbbbbbbbbbbb in one run and dddddddddddd in the other"
    ]


def test_what_was_not_recorded_differs_from_nothing_and_is_named(value):
    old = value({"AA": "", "analytic:double-well": ""}, suite_sha256="0" * 64)
    assert old.unrecorded == ("the force field", "the references of AA"), "analytic ones have no file"
    new = value({"AA": "a" * 64})
    assert new.unrecorded == ()
    assert [word for word in old.differences(new) if "reference" in word or "force field" in word] == []


def test_the_force_field_is_that_of_the_suites_file(make_cell, tmp_path):
    def of(path):
        suite = load_suite(str(path / "own@1.yaml"))
        return Comparability.of(new_plan([make_cell(suite="own@1")], suite.sha256), folder=path)

    vacuum = "{name: vacuum, files: [amber14-all.xml]}"
    for name, more in (("a", ""), ("b", f"forcefield: {vacuum}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own@1.yaml").write_text(f"systems: [AA]\nenergy: batched\nbudget: 60\n{more}")
    first, second = of(tmp_path / "a"), of(tmp_path / "b")
    assert first.forcefield.startswith("amber14-obc1 ")
    assert any(
        sentence.startswith(f"the force field is {first.forcefield} in one run and vacuum ")
        for sentence in first.differences(second)
    )


@pytest.fixture
def run(tmp_path, make_cell):
    def make(name, value, diagnostics=None, sampler="md", estimator="mcmc", metric="torus_w2", **changes):
        cells = [make_cell(system=s, sampler=sampler, estimator=estimator, **changes) for s in SYSTEMS]
        inputs = Inputs(references=dict.fromkeys(SYSTEMS, "a" * 64), protocol_sha256="b" * 64)
        plan = new_plan(cells, load_suite("dipeptides-mini@1").sha256, inputs=inputs)
        made = RunFolder.create(tmp_path / name, plan)
        for k, cell in enumerate(cells):
            fields = {"metrics": {metric: value + 0.01 * k}, "diagnostics": diagnostics or {}}
            record = Record(id="x", cell=cell, status="ok", budget=Budget(limit=60, used=1), **fields)
            write_json(made.record_path(cell), record)
        return made

    return make


def test_every_table_refuses_with_the_same_sentences(run, tmp_path):
    runs = [run("a", 1.0), run("b", 1.0, sampler="prose", budget=7)]
    (sentence,) = Comparability.of(runs[0].plan).differences(
        Comparability.of(runs[1].plan), str(runs[0].path), str(runs[1].path)
    )
    for table in (
        refuse_unlike,
        lambda folders: compare(folders, "torus_w2"),
        lambda folders: break_even(folders, "torus_w2"),
        lambda folders: draw_curves(folders, ["torus_w2"], tmp_path / "c.png"),
    ):
        with pytest.raises(BgbenchError) as refused:
            table(runs)
        assert sentence in str(refused.value)


def test_runs_are_refused_whichever_two_of_them_differ(run):
    alike = [run(name, 1.0) for name in "abc"]
    refuse_unlike(alike)
    with pytest.raises(BgbenchError, match=r"in .*a and 350 K in .*d; run one of them again"):
        refuse_unlike([*alike, run("d", 1.0, temperature=350.0)])


def test_a_density_that_failed_its_audit_is_named_beside_the_table(run, cli, tmp_path):
    sound, failed = run("a", 1.0), run("b", 2.0, {"density": {"verified": False}}, sampler="prose")
    assert caveats({"md": sound}) == []
    (sentence,) = caveats({"md": sound, "prose": failed})
    assert sentence.startswith("prose: the audit of its density failed in AA-s0, DI-s0")
    words = ["compare", sound.path, failed.path, "--metric", "torus_w2", "--figure", tmp_path / "f.png"]
    code, printed, _ = cli(*words)
    assert code == 0
    assert sentence in printed


def test_a_reference_that_was_replaced_since_is_named_beside_the_table(run, monkeypatch):
    monkeypatch.setattr(
        superseded, "superseded_references", lambda: {"a" * 64: Superseded("DI", "2026-11-28", "trans alone")}
    )
    assert caveats({"md": run("a", 1.0)}) == [
        "md: the reference of DI is the one packaged until 2026-11-28 (trans alone); run it again for today's"
    ]


def test_differences_are_in_the_metrics_unit_and_agree_with_the_means(run, cli, tmp_path):
    """They were of value² − floor², and their sign could contradict the means."""
    # The first is worse by its value, and better by what the protocol ranks by: few points, a high floor.
    few = run("a", 3.0, {"floors_at_n_eff": {"energy_w2": 3.0}}, metric="energy_w2")
    many = run("b", 2.0, {"floors_at_n_eff": {"energy_w2": 0.1}}, sampler="remd", metric="energy_w2")
    comparison = compare([few, many], "energy_w2")
    assert comparison.ranks == {"md": (1, 1), "remd": (2, 2)}
    (pair,) = comparison.pairs
    assert pair.difference.mean == pytest.approx(
        comparison.intervals["md"].mean - comparison.intervals["remd"].mean
    )
    words = ["compare", few.path, many.path, "--metric", "energy_w2", "--figure", tmp_path / "f.png"]
    _, printed, _ = cli(*words)
    assert "md − remd: +1 kT (+1 … +1), Wilcoxon p" in printed
    assert "bgbench@1 ranks distances by their excess over the noise floor" in printed
    assert comparison.ranking
    plain = [run("c", 1.0), run("d", 2.0, sampler="remd")]
    assert compare(plain, "torus_w2").ranking == "", "without floors, ranks are of the metric itself"


def test_the_ess_of_equal_weights_is_a_dash_and_ranks_nobody(run, cli, tmp_path):
    """ESS of walks is 1 by definition, and they were ranked first."""
    walk = run("a", 1.0, metric="ess")
    flows = [run(name, 0.3, sampler=name, estimator="snis", metric="ess") for name in ("prose", "verse")]
    comparison = compare([walk, *flows], "ess")
    assert set(comparison.intervals) == set(comparison.ranks) == {"prose", "verse"}
    assert (comparison.rank("md"), comparison.best_first()[-1]) == ("–", "md")
    assert comparison.notes == ["md: all points have the same weight, and ess says nothing"]
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [("prose", "verse")]
    figure = ["--figure", tmp_path / "f.png"]
    code, printed, _ = cli("compare", walk.path, flows[0].path, "--metric", "ess", *figure)
    assert code == 0
    (line,) = [line for line in printed.splitlines() if line.startswith("md ")]
    assert line.split() == ["md", "–", "–", "–", "–"]
    code, printed, _ = cli("compare", walk.path, run("b", 1.0, metric="ess").path, "--metric", "ess", *figure)
    assert code == 0, "two walks have nothing to compare by ESS, and other metrics all the same"
    _, printed, _ = cli("show", walk.path)
    assert [line.split()[3] for line in printed.splitlines() if line.startswith("AA")] == ["–"]
