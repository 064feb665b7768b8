"""Runs in YAML files: what they may say, what comes over them, and the one in a run folder."""

import json

import pytest

import bgbench
from bgbench.api import run_config
from bgbench.core.errors import BgbenchError
from bgbench.runs.configs import read_config
from bgbench.runs.runfolder import RunFolder

MINE = """
sampler: prior
only: [AA]
budget: 30
seeds: 1
workers: 0
tracking_uri: none
options: {width: 0.011, estimator: {cut: psis}}
estimator: snis
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def test_a_run_of_a_file_and_the_file_in_its_folder_are_one_run(config, cli, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    code, _, err = cli("run", "-c", config, "--set", "width=0.012", "--budget", 20, "--out", one)
    assert code == 0, err
    (first,) = RunFolder.open(one).records()
    assert first.cell.budget == 20
    assert first.cell.options == {"width": "0.012"}
    assert first.cell.estimator_options == {"cut": "psis"}
    moved = tmp_path / "elsewhere"
    one.rename(moved)
    code, _, err = cli("run", "-c", moved / "config.yaml", "--out", two)
    assert code == 0, err
    again = RunFolder.open(two)
    assert again.plan.id == RunFolder.open(moved).plan.id
    assert again.records()[0].metrics == first.metrics
    assert (two / "config.yaml").read_text() == (moved / "config.yaml").read_text()


def test_the_resolved_file_holds_defaults_temperature_and_text_as_it_is(tmp_path):
    made = bgbench.run(
        "prior", only=["AA"], budget=10, seeds=1, first_seed=3, workers=0, out=tmp_path / "run",
        tracking_uri="none", options={"width": "0.010"},
    )  # fmt: skip
    keywords = read_config(made.folder / "config.yaml")
    assert (keywords["seeds"], keywords["first_seed"], keywords["estimator"]) == (
        1,
        3,
        made.records[0].cell.estimator,
    )
    assert keywords["options"] == {"width": "0.010"}
    assert keywords["suite"] == str(made.folder / "dipeptides-mini@1.yaml")
    assert "out" not in keywords
    assert "resume" not in keywords


def test_a_sampler_on_the_command_line_comes_over_that_of_the_file(config, cli, tmp_path):
    code, _, err = cli("run", "nobody", "-c", config, "--out", tmp_path / "run")
    assert code == 2
    assert "unknown sampler 'nobody'" in err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("budgte: 3", "has an unknown key 'budgte'; did you mean 'budget'?"),
        ("resume: true", "has an unknown key 'resume'"),
        ("- prior", "must map keywords to values"),
        ("{sampler: prior, options: [1]}", "options must map names to values, got [1]"),
        ("{sampler: prior, only: AA}", "only must be a list of systems, as [AA]"),
        ("{sampler: prior, budget: ${no.such}}", "cannot read"),
        ("sampler: [", "cannot read"),
        ("{sampler: prior, budget: many}", "budget='many' is not valid"),
        ("{sampler: prior, options: {foo: {a: 1}}}", "unknown prefix 'foo.'"),
        ("budget: 3", "name a sampler"),
    ],
)
def test_files_that_cannot_be_run_are_refused_in_one_line(cli, tmp_path, text, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    code, _, err = cli("run", "-c", path, "--out", tmp_path / "run")
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_from_python_a_file_without_a_sampler_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    with pytest.raises(BgbenchError, match="cannot read"):
        run_config(path)
    path.write_text(json.dumps({"budget": 3}))
    with pytest.raises(BgbenchError, match="names no sampler; write `sampler: NAME`"):
        run_config(path)
