"""Protocols are data: YAML files, read strictly, that name the metrics which are computed."""

import doctest
import importlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bgbench
from bgbench import BgbenchError, Conventions, MetricPlugin
from bgbench.core.plugins import Origin, build_reference, build_system, plugins
from bgbench.core.resources import protocols_path
from bgbench.evaluation.judging import judge
from bgbench.evaluation.protocols import get_protocol, protocol_copy, read_protocol
from bgbench.metrics import names

GOOD = "summary: a test\nn_samples: 30\nmetrics: [ess, energy_w2]\nheadline: [ess]\n"


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="mine@1.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to_file


def test_the_shipped_protocols_are_what_they_were():
    """Kept records were judged by these numbers."""
    ours, papers = get_protocol("bgbench@1"), get_protocol("paper@1")
    assert (ours.n_samples, ours.conventions) == (10_000, Conventions("gaussian", "zero"))
    assert (ours.weights, ours.transport, ours.cut, ours.rank) == ("weighted", 2_500, "none", "excess")
    assert (papers.n_samples, papers.conventions) == (10_000, Conventions("chi", "flip"))
    assert (papers.weights, papers.transport, papers.cut, papers.rank) == ("resampled", None, "drop", "value")
    for protocol in (ours, papers):
        assert protocol.metrics == (
            "ess", "energy_w2", "torus_w2", "tica_w2", "torus_jsd", "tica_jsd", "mode_weights", "validity",
        )  # fmt: skip
        assert protocol.headline == names.COMPARED


def test_every_shipped_file_is_registered_and_shipped_in_the_wheel():
    files = {path.stem for path in protocols_path().glob("*.yaml")}
    assert files == set(plugins().protocols) >= {"bgbench@1", "paper@1"}
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"benchmarks/protocols" = "bgbench/_data/protocols"' in text


def test_a_name_without_its_version_is_the_latest(monkeypatch, write):
    assert get_protocol("bgbench").id == "bgbench@2"
    for version in (3, 10):
        path = write(GOOD, f"bgbench@{version}.yaml")
        monkeypatch.setitem(plugins().protocols._entries, path.stem, (path, Origin("t", "t", "1")))
    assert get_protocol("bgbench").version == 10
    assert get_protocol("bgbench@1").version == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            f"{GOOD}wieghts: weighted",
            "unknown field 'wieghts'; did you mean 'weights'? Known: ",
        ),
        (f"{GOOD}zzz: 1", "unknown field 'zzz'; known: conventions, cut, effective_splits"),
        (f"{GOOD}name: mine", "it must not say its name, which is that of the file"),
        (f"{GOOD}transport: '5'", "transport: Input should be a valid integer"),
        (f"{GOOD}transport: yes", "transport: Input should be a valid integer"),
        (f"{GOOD}transport: 0", "transport must be 1 or more, got 0"),
        (f"{GOOD}weights: even", "weights: unknown word 'even'; known: weighted, resampled"),
        (f"{GOOD}cut: drop", "cut: drop needs `weights: resampled`; weighted points are never cut"),
        (f"{GOOD}cut: top", "cut: unknown word 'top'; known: none, truncate, drop, psis"),
        (
            f"{GOOD}conventions: {{com: gaussain}}",
            "conventions.com: unknown word 'gaussain'; did you mean 'gaussian'? Known: gaussian, chi, none",
        ),
        (
            f"{GOOD}conventions: {{hands: zero}}",
            "field 'conventions.hands'; did you mean 'conventions.handedness'?",
        ),
        (GOOD.replace("30", "30.5"), "n_samples: Input should be a valid integer"),
        (GOOD.replace("n_samples: 30\n", ""), "n_samples: Field required"),
        (GOOD.replace("energy_w2", "energy_w3"), "got 'energy_w3'; did you mean 'energy_w2'? (see"),
        (GOOD.replace("headline: [ess]", "headline: [torus_w2]"), "headline: each metric must be one of ess"),
        (GOOD.replace("energy_w2", "ess"), "metrics: ess is listed twice"),
        (GOOD.replace("[ess, energy_w2]", "[]"), "metrics must name at least one metric"),
        (GOOD.replace("[ess, energy_w2]", "ess"), "metrics: Input should be a valid"),
        ("- a list", "it must map fields to values"),
        ("a: [1", "line 1: expected ',' or ']'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_file(write, text, complaint):
    with pytest.raises(BgbenchError, match=r"mine@1\.yaml is not a protocol: ") as caught:
        read_protocol(write(text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mine.yaml", "mine@0.yaml", "mine@x.yaml", "my own@1.yaml"])
def test_a_file_is_called_by_its_name_and_version(write, name):
    with pytest.raises(BgbenchError, match="is not named like a protocol: call it name@1"):
        read_protocol(write(GOOD, name))
    with pytest.raises(BgbenchError, match=r"gone@1\.yaml is not a protocol: "):
        read_protocol(write(GOOD).parent / "gone@1.yaml")


def test_a_wrong_protocol_is_refused_before_the_run(cli, write, tmp_path):
    path = write(GOOD.replace("energy_w2", "energy_w3"))
    code, _, err = cli(
        "run", "prior", "--only", "AA", "--protocol", path, "--workers", 0, "--out", tmp_path / "r"
    )
    assert code == 2
    assert "energy_w3" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r").exists()
    code, _, err = cli("run", "prior", "--only", "AA", "--protocol", "papr@1", "--workers", 0)
    assert code == 2
    assert "unknown protocol 'papr@1'; did you mean 'paper@1'?" in err
    assert "Known: bgbench@1, bgbench@2, paper@1, paper@2 (see" in err


def test_the_copy_beside_a_run_is_what_its_cells_are_judged_by(write, tmp_path):
    copy = protocol_copy(tmp_path / "run", "mine@1")
    copy.parent.mkdir(parents=True)
    copy.write_text(GOOD)
    assert get_protocol("mine@1", tmp_path / "run").n_samples == 30
    with pytest.raises(BgbenchError, match="unknown protocol 'mine@1'"):
        get_protocol("mine@1")


def test_a_changed_file_is_read_again(write):
    path = write(GOOD)
    first = read_protocol(path)
    path.write_text(GOOD.replace("30", "31"))
    os.utime(path, ns=(1, 1))
    again = read_protocol(path)
    assert (first.n_samples, again.n_samples) == (30, 31)
    assert first.sha256 != again.sha256


@pytest.fixture
def register(monkeypatch):
    """Registers a metric for one test."""

    def add(plugin):
        origin = Origin("theirs", "their-dist", "1")
        monkeypatch.setitem(plugins().metrics._entries, plugin.name, (plugin, origin))

    return add


@pytest.fixture
def judgement_of(make_bench):
    """Judges the reference of `analytic:harmonic` against itself by these metrics."""

    def judged(*metrics):
        system, reference = build_system("analytic:harmonic"), build_reference("analytic:harmonic")
        bench = make_bench(system, reference)
        protocol = replace(bench.protocol, metrics=metrics, headline=metrics, n_samples=50)
        estimate = bgbench.Estimate(
            bgbench.Ensemble.unweighted(reference.x[:50], reference.u[:50]),
            bgbench.Proposal(reference.x[:50]),
        )
        return judge(estimate, replace(bench, protocol=protocol))

    return judged


def test_what_a_protocol_names_is_computed_and_nothing_else(register, judgement_of):
    register(MetricPlugin("spread", "a test", lambda case: {"spread": case.estimate.ensemble.x.std()}))
    register(MetricPlugin("chemical", "a test", lambda case: {"chemical": 1.0}, needs_atoms=True))
    metrics = judgement_of("spread", "chemical").metrics
    assert set(metrics) == {"spread"}
    assert isinstance(metrics["spread"], float)


@pytest.mark.parametrize(
    ("compute", "complaint"),
    [
        (lambda case: 7, "metric 'odd' must return values by name, got 7"),
        (lambda case: {"odd": "0.5"}, "metric 'odd': 'odd' must be a number, got '0.5'"),
        (lambda case: {"odd": True}, "metric 'odd': 'odd' must be a number, got True"),
        (lambda case: {"odd": 10**400}, "metric 'odd': 'odd' must be a number, got 1000"),
        (lambda case: {"odd": 1.0, "": 1.0}, "metric 'odd' returns a value by the name ''"),
        (lambda case: {"odd": 1.0, "../b": 1.0}, "metric 'odd' returns a value by the name '../b'"),
        (lambda case: {"odd": 1.0, None: 1.0}, "metric 'odd' returns a value by the name None"),
        (lambda case: {"even": 1.0}, "metric 'odd' must return a value 'odd', got even only"),
        (lambda case: {"odd": torch.zeros(2)}, "metric 'odd': 'odd' must be a number, got tensor"),
        (
            lambda case: {"odd": 1.0, "ess": 1.0},
            "metric 'odd' returns a value 'ess', which another metric has",
        ),
    ],
)
def test_what_a_metric_must_not_return_names_its_plugin(register, judgement_of, compute, complaint):
    register(MetricPlugin("odd", "a test", compute))
    with pytest.raises(BgbenchError, match=f"plugin theirs of their-dist: {complaint}"):
        judgement_of("ess", "odd")


def test_names_that_lead_are_registered_with_what_they_need():
    registry = plugins().metrics
    assert {name for name in registry if registry[name].has_floor} == set(names.WITH_FLOOR)
    assert get_protocol("bgbench@1").metrics_of(build_system("analytic:harmonic")) == ("ess", "energy_w2")
    assert get_protocol("bgbench@1").metrics_of(bgbench.peptide("GG")) == get_protocol("bgbench@1").metrics


@pytest.mark.parametrize(
    "name",
    [
        "evaluation.protocols",
        "evaluation.versioned",
        "systems.named",
        "core.simulation",
        "runs.tracking",
        "leaderboard.submit",
        "references.providers",
    ],
)
def test_examples_run(name):
    """Of modules that the examples of public names do not reach."""
    outcome = doctest.testmod(importlib.import_module(f"bgbench.{name}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0
