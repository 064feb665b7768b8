"""`bgbench options NAME`: what can be set, without reading an error message."""

import pytest

from bgbench.core.plugins import plugins


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [("prior", "width", "0.02"), ("verse", "weights", "verse-mini"), ("snis", "estimator.cut", "none")],
)
def test_options_are_listed_with_default_and_meaning(cli, name, option, default):
    code, printed, _ = cli("options", name)
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{option} ")]
    assert code == 0
    assert default in line.split()
    assert len(line.split()) > 4


def test_every_shipped_sampler_and_estimator_registers_its_options(cli):
    names = [*plugins().samplers, *plugins().estimators, "slurm"]
    assert {name: cli("options", name)[0] for name in names} == dict.fromkeys(names, 0)
