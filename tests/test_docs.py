"""Docs cannot lie: README blocks run, commands exist, tables are those of the stored records."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from bgbench.cli import app
from bgbench.protocols import PROTOCOLS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_python_blocks_run(tmp_path, monkeypatch):
    blocks = [text for language, text in BLOCKS if language == "python"]
    assert blocks
    monkeypatch.chdir(tmp_path)
    for text in blocks:
        exec(compile(text, "README.md", "exec"), {})


COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "bash"
    for part in text.splitlines()
    for line in part.split("&&")
    if line.strip().startswith("bgbench")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line):
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_set_up_commands_are_the_ones_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q -c constraints.txt '.[test]' && pytest" in ci
    assert "pip install -c constraints.txt '.[test]' && pytest" in README
    assert "pip install -c constraints.txt . && bgbench run prose" in README


def test_the_results_table_is_that_of_the_stored_records():
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    folder = ROOT / "benchmarks" / "results"
    assert len(results.opened(folder)) >= 4
    assert (folder / "curves.png").stat().st_size > 5000
    assert results.rewritten(README, folder) == README


def test_the_estimators_table_has_its_place_and_every_run_of_it_a_command(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    estimators = importlib.import_module("estimators")
    assert README.index(estimators.START) < README.index(estimators.END)
    monkeypatch.setattr("sys.argv", ["estimators.py", "prose", "--commands", "--only", "AA", "--seeds", "1"])
    estimators.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for line in lines:
        test_commands_and_their_options_exist(line)
    if estimators.KEPT.is_dir():
        assert estimators.rewritten(README, estimators.KEPT, estimators.START, estimators.END) == README


def test_headline_tables_are_those_of_the_stored_records(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    headline = importlib.import_module("headline")
    suites = [path.name for path in headline.KEPT.iterdir() if path.is_dir()]
    assert "dipeptides30" in suites
    for suite in ("dipeptides-mini", "tetrapeptides30"):
        for protocol in PROTOCOLS:
            words = "" if protocol == headline.DEFAULT else f" --protocol {protocol}"
            marker = f"<!-- headline: python benchmarks/headline.py {suite}{words} -->"
            assert headline.markers(f"{suite}@1", protocol)[0] == marker
    for suite in suites:
        plan = headline.opened(headline.KEPT / suite)[0].plan
        assert headline.markers(plan.suite, plan.protocol)[0] in README
        assert headline.table_name(plan.suite, plan.protocol) == suite
        assert headline.rewritten(README, suite) == README
        assert (headline.KEPT / f"{suite}.png").stat().st_size > 5000
    for words in ([], ["--protocol", "paper@1"]):
        monkeypatch.setattr("sys.argv", ["headline.py", "tetrapeptides30", "--commands", *words])
        headline.main()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(headline.SAMPLERS)
        for line in lines:
            test_commands_and_their_options_exist(line)
            assert ("--protocol paper@1" in line) == bool(words)
            assert ("variant=mode-deleted" in line) == ("/mode-deleted" in line)


def test_the_scale_table_is_that_of_the_stored_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    scale = importlib.import_module("scale")
    assert f"{scale.START}\n{scale.table(scale.kept())}\n{scale.END}" in scale.PAGE.read_text()


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 80
