"""The rules that people read are the constants that the code uses."""

import re
from pathlib import Path

import yaml

from bgbench.core.plugins import plugins
from bgbench.leaderboard import rules

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "leaderboard" / "rules.md").read_text()


def table(heading):
    block = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in block.splitlines()
        if line.startswith("|")
    ]
    return rows[2:]


def shown(value):
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:g}" for key, number in value.items())
    return str(value)


def test_every_constant_is_in_the_rules_with_its_value():
    constants = {name: value for name, value in vars(rules).items() if name.isupper() and name != "REASONS"}
    assert {name: value for name, value, _ in table("Constants")} == {
        name: shown(value) for name, value in constants.items()
    }


def test_every_reason_is_in_the_rules():
    assert dict(table("Reasons to refuse")) == rules.REASONS


def test_the_tiers_are_those_of_the_rules():
    assert tuple(row[0] for row in table("Tiers")) == rules.TIERS


def test_metrics_and_protocols_exist():

    assert set(rules.SHOWN) <= set(plugins().metrics)
    assert set(rules.RANKED) <= set(rules.SHOWN)
    assert rules.ORDER in rules.RANKED
    assert list(plugins().protocols)


def test_commands_of_the_rules_exist():
    import shlex

    import typer.main

    from bgbench.cli.main import app

    for line in re.findall(r"`(bgbench leaderboard [^`]+)`", TEXT):
        words = shlex.split(line)[1:]
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_published_numbers_are_whole():
    """Every block has three sizes a row and four metrics a size; spot values as printed."""
    published = yaml.safe_load((ROOT / "leaderboard" / "site" / "published.yaml").read_text())
    for block in published["blocks"]:
        for name, *sizes in block["rows"]:
            assert len(sizes) == 3, name
            assert all(size is None or len(size) == 4 for size in sizes), name
    first, second, robin, dynamics = published["blocks"]
    assert robin["rows"][0][2:] == [[None, 1.168, 0.886, 0.471], [None, 4.251, 2.325, 0.943]]
    assert dynamics["rows"][-1][2] == [None, 0.34, 0.71, 0.74]
    assert any("χ₃ factor" in note for note in published["notes"])
    assert any(note.startswith("Not comparable") for note in published["notes"])
    assert first["rows"][0] == [
        "Prose",
        [0.191, 0.371, 0.21, None],
        [0.071, 0.932, 0.752, 0.367],
        [0.011, 10.04, 2.456, 0.988],
    ]
    assert [row[0] for row in first["rows"]] == [
        "Prose",
        "TarFlow",
        "ECNF++",
        "ECNF (TBG)",
        "Timewarp",
        "BioEmu",
    ]
    assert second["rows"][2][1:] == [
        [None, 0.249, 0.147, None],
        [None, 0.653, 0.721, 0.4],
        [None, 7.672, 2.524, 1.086],
    ]
