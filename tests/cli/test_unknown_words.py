"""The law of unknown words: whatever is misspelt, the answer names the nearest known word."""

import pytest


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("run", "prse"), "prose"),
        (("run", "prior", "--suite", "tetrapeptide30"), "tetrapeptides30@1"),
        (("run", "prior", "--estimator", "snsi"), "snis"),
        (("run", "prior", "--protocol", "bgbench@5"), "bgbench@2"),
        (("run", "prior", "--cluster", "slrum"), "slurm"),
        (("run", "prior", "--only", "AAA"), "AA"),
        (("run", "prior", "--set", "widht=1"), "width"),
        (("run", "prior", "--set", "estimater.x=1"), "estimator.x"),
        (("data", "simulate", "AA", "--engine", "batchd"), "batched"),
        (("data", "fetch", "many-peptide-md", "--suite", "dipeptides30"), "many-peptides-md"),
        (("train", "prose", "--set", "stepz=3"), "steps"),
        (("train", "prose", "--set", "config=prose-mimi"), "prose-mini"),
        (("list", "samplrs"), "samplers"),
        (("data", "simulate", "AA", "--set", "rugns=3"), "rungs"),
        (("audit", "vers"), "verse"),
        (("options", "slrum"), "slurm"),
        (("run", "prose", "--set", "temperatue=3"), "temperature"),
        (("run", "prior", "--set", "tempreature=3"), "temperature"),
        (("run", "prose", "--set", "cut=psis"), "estimator.cut"),
        (("run", "prose", "--set", "estimator.ct=psis"), "estimator.cut"),
        (("run", "prose", "--set", "estimator.cut=pssi"), "psis"),
        (("run", "prose", "--set", "path=compil"), "compile"),
        (("run", "prose", "--set", "weights=prose-mimi"), "prose-mini"),
        (("run", "prior", "--tracking-uri", "sqlit:///x"), "sqlite:"),
        (("train", "prose", "--set", "optimizer=moun"), "muon"),
        (("train", "verse", "--set", "energie=1"), "energies"),
        (("train", "tbg", "--config", "tbg-mimi"), "tbg-mini"),
        (("data", "simulate", "AA", "--engine", "openmm", "--set", "warmup=3"), "warm_up"),
        (("data", "simulate", "dipeptides-min"), "dipeptides-mini@1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_the_nearest_known_word_is_named(cli, tmp_path, monkeypatch, words, nearest):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*words)
    assert code == 2
    assert f"did you mean '{nearest}'?" in " ".join(err.split())


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("systems: [AA]\nenrgy: batched\n", "energy"),
        ("systems: [AA]\nenergy: batchd\n", "batched"),
        ("systems: [AA]\nprotocol: bgbnch@1\n", "bgbench@1"),
        ("systems: ['analytic:harmonc']\n", "analytic:harmonic"),
        ("systems: [AA]\nforcefield: {nam: mine}\n", "forcefield.name"),
        ("systems: [AA]\nforcefield: {nonbonded_method: NoCutof}\n", "NoCutoff"),
    ],
)
def test_the_nearest_word_of_a_suite_is_named(cli, tmp_path, text, nearest):
    path = tmp_path / "mine@1.yaml"
    path.write_text(text)
    code, _, err = cli("run", "prior", "--suite", path, "--out", tmp_path / "run")
    assert code == 2
    assert f"did you mean '{nearest}'?" in err


PROTOCOL = "summary: my own\nn_samples: 10\n"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("metrcs: [torus_w2]\nheadline: [torus_w2]\n", "metrics"),
        ("metrics: [toruss_w2]\nheadline: [toruss_w2]\n", "torus_w2"),
        ("metrics: [torus_w2]\nheadline: [torsu_w2]\n", "torus_w2"),
        ("metrics: [torus_w2]\nheadline: [torus_w2]\ncut: drp\n", "drop"),
        ("metrics: [torus_w2]\nheadline: [torus_w2]\nweights: weigthed\n", "weighted"),
        ("metrics: [torus_w2]\nheadline: [torus_w2]\nconventions: {com: gausian}\n", "gaussian"),
    ],
)
def test_the_nearest_word_of_a_protocol_is_named(cli, tmp_path, text, nearest):
    path = tmp_path / "mine@1.yaml"
    path.write_text(PROTOCOL + text)
    code, _, err = cli("run", "prior", "--only", "AA", "--protocol", path, "--out", tmp_path / "run")
    assert code == 2
    assert f"did you mean '{nearest}'?" in err


def test_the_nearest_metric_of_runs_is_named(cli, analytic_suite, tmp_path):
    runs = tmp_path / "one", tmp_path / "two"
    words = ("run", "prior", "--suite", analytic_suite, "--only", "analytic:harmonic", "--workers", 0)
    for run in runs:
        assert cli(*words, "--tracking-uri", "none", "--out", run)[0] == 0
    for command in ("compare", "curve"):
        code, _, err = cli(command, *runs, "--metric", "enrgy_w2")
        assert code == 2
        assert "did you mean 'energy_w2'?" in err
