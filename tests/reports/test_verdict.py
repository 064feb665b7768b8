"""What a run's numbers say: skill beside them, whether they are good, what to do next."""

import pytest

from bgbench.core.files import write_json
from bgbench.reports.verdict import sentences_on
from bgbench.runs.records import Budget, Record
from bgbench.runs.runfolder import RunFolder, new_plan


@pytest.fixture
def run(tmp_path, make_cell):
    """A run of AA and DI with the same skill, and diagnostics of one's own."""

    def make(skill, diagnostics=None, estimator="none"):
        cells = [make_cell(system=name, estimator=estimator) for name in ("AA", "DI")]
        folder = RunFolder.create(tmp_path / "run", new_plan(cells, "hash"))
        skills = {} if skill is None else {"torus_w2": skill, "tica_w2": 0.1}
        fields = {"metrics": {"torus_w2": 0.5}, "skills": skills, "diagnostics": diagnostics or {}}
        for cell in cells:
            record = Record(id="x", cell=cell, status="ok", budget=Budget(limit=60, used=1), **fields)
            write_json(folder.record_path(cell), record)
        return folder

    return make


@pytest.mark.parametrize(
    ("skill", "verdict", "command"),
    [
        (1.1, "the mean here is 1.1, as good as exact draws", "bgbench compare "),
        (0.7, "the mean here is 0.7, better than the Gaussian and short of exact", "bgbench curve "),
        (-0.5, "the mean here is -0.5, far from exact draws", "bgbench report "),
    ],
)
def test_skill_is_a_column_with_what_good_looks_like_and_what_to_do_next(run, cli, skill, verdict, command):
    folder = run(skill)
    code, printed, _ = cli("show", folder.path)
    assert code == 0
    head, first = printed.splitlines()[1:3]
    assert head.split()[:4] == ["system", "seed", "status", "skill"]
    assert first.split()[3] == f"{skill:.3g}"
    assert "1 on the noise floor" in printed
    assert "0 for a Gaussian around the start structure" in printed
    assert verdict in printed
    assert f"`{command}{folder.path}" in printed


def test_systems_without_skill_have_no_column_and_no_sentence(run, cli):
    _, printed, _ = cli("show", run(None).path)
    assert printed.splitlines()[1].split()[:4] == ["system", "seed", "status", "torus_w2"]
    assert "skill is" not in printed


def test_a_cell_that_failed_has_no_skill(run, cli):
    folder = run(0.9)
    cell = folder.plan.cells[1]
    fields = {"status": "crash", "error": "no", "budget": Budget(limit=60, used=1)}
    write_json(folder.record_path(cell), Record(id="x", cell=cell, **fields))
    _, printed, _ = cli("show", folder.path)
    (line,) = [line for line in printed.splitlines() if line.startswith("DI ")]
    assert line.split()[2:4] == ["crash", "–"]
    assert "the mean here is 0.9" in printed


def test_weights_on_few_points_and_densities_not_verified_are_shown(run, cli):
    diagnostics = {"effective_points": 1.3, "density": {"verified": False}}
    folder = run(0.9, diagnostics, "snis")
    lines = sentences_on(folder.records(), folder.path)
    assert lines[1].startswith("fewer than 100 effective points in AA-s0, DI-s0: a few weights decide")
    _, printed, _ = cli("show", folder.path)
    assert all(line in printed for line in lines)
    assert "AA-s0, DI-s0: density not verified (" in printed


def test_a_walk_has_no_weights_to_warn_of(run):
    folder = run(0.9, {"effective_points": 60.0}, "mcmc")
    assert len(sentences_on(folder.records(), folder.path)) == 1
