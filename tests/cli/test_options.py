"""`bgbench options NAME`: what can be set, without reading an error message."""

import pytest

from bgbench.core.plugins import plugins
from bgbench.references.certificates import read_certificate


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("prior", "width", "0.02"),
        ("verse", "weights", "verse-mini"),
        ("snis", "estimator.cut", "none"),
        ("softened", "rungs", "3"),
    ],
)
def test_options_are_listed_with_default_and_meaning(cli, name, option, default):
    code, printed, _ = cli("options", name)
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{option} ")]
    assert code == 0
    assert default in line.split()
    assert len(line.split()) > 4


def test_everything_shipped_registers_its_options(cli):
    registries = (plugins().samplers, plugins().estimators, plugins().engines)
    names = [name for some in registries for name in some if some.origin(name).distribution == "bgbench"]
    assert {"prose", "snis", "softened"} <= set(names)
    names.append("slurm")
    assert {name: cli("options", name)[0] for name in names} == dict.fromkeys(names, 0)


def test_an_engine_takes_its_settings_over_its_own(cli, tmp_path):
    words = ("data", "simulate", "GG", "--train", "--frames", "60", "--replicas", "2", "--out", tmp_path)
    settings = ("--set", "anneal_steps=100", "--set", "warm_up=1", "--set", "round_steps=10")
    code, _, err = cli(*words, *settings)
    assert (code, err) == (0, "")
    stored = read_certificate(tmp_path / "GG.npz")["settings"]
    assert (stored["anneal_steps"], stored["warm_up"], stored["round_steps"]) == (100, 1, 10)
    assert stored["rungs"] == plugins().engines["batched"].engine.training_settings().rungs
    code, _, err = cli(*words, "--set", "step=2")
    assert (code, "write --step 2" in err) == (2, True)


@pytest.mark.parametrize("words", [(), ("run",), ("data", "simulate"), ("leaderboard", "submit")])
def test_help_shows_no_value_of_flags(cli, words):
    code, printed, _ = cli(*words, "--help")
    assert code == 0
    assert "--help" in printed
    assert "bool" not in printed.lower()


def test_the_help_of_seeds_says_how_many(cli):
    _, printed, _ = cli("run", "--help")
    text = " ".join(printed.replace("│", " ").split())
    assert "the suite's, 1 in dipeptides-mini, else mostly 3" in text


def test_doctor_says_what_each_plugin_brings(cli):
    _, printed, _ = cli("doctor")
    (line,) = [line for line in printed.splitlines() if line.startswith("plugin md: ")]
    assert {"md", "remd", "softened"} <= set(line.replace(",", "").split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("simulate GG --length 3", "--length has no effect where peptides are named; leave it out"),
        ("simulate GG --train --count 3", "--count has no effect where peptides are named; leave it out"),
        ("simulate GG --cover x", "--cover has no effect where peptides are named; leave it out"),
        ("simulate --length 3", "--length has no effect without --train; leave it out"),
        ("simulate GG --train --short", "--short has no effect with --train, whose simulations are short"),
        ("simulate GG --ns 1 --set rounds_per_frame=3", "--set rounds_per_frame has no effect with --ns"),
        ("weigh prior GG --count 3", "--count has no effect where peptides are named; leave it out"),
        (
            "fetch many-peptides-md --suite dipeptides-mini --from x --revision y",
            "--revision has no effect with --from, whose files are read as they are; leave it out",
        ),
    ],
)
def test_an_option_of_data_without_an_effect_is_refused_by_name(cli, words, sentence):
    code, printed, err = cli("data", *words.split())
    assert (code, printed) == (2, "")
    assert sentence in err
