"""Help teaches: every command has an example that can be typed, every option says its default."""

import shlex

import pytest
import typer.main

from bgbench.cli.main import WAYS_TO_START, app

ROOT = typer.main.get_command(app)


def commands_in(group, words="bgbench"):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_in(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


COMMANDS = dict(commands_in(ROOT))


def parse(line):
    """Let the command that a line names read its words; raises for what it does not take."""
    words = shlex.split(line)
    assert words.pop(0) == "bgbench"
    command = ROOT
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("bgbench", words)
    return command


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_has_an_example_of_itself(words):
    example = COMMANDS[words].epilog.removeprefix("Example: ")
    assert example.startswith(words)
    assert parse(example).name == words.split()[-1]


@pytest.mark.parametrize("words", COMMANDS)
def test_options_say_their_default(words):
    for parameter in COMMANDS[words].params:
        if parameter.param_type_name != "option" or parameter.is_flag or parameter.required:
            continue  # a flag is off, and what is required has none
        shown = parameter.show_default and parameter.default not in (None, "", [])
        assert shown or "default" in parameter.help, f"{words} {parameter.opts[0]}: {parameter.help}"


@pytest.mark.parametrize("words", COMMANDS)
def test_an_option_says_its_default_once(words):
    for parameter in COMMANDS[words].params:
        if parameter.param_type_name == "option" and parameter.show_default:
            shown = parameter.default not in (None, "", []) and not parameter.is_flag
            assert not (shown and "default:" in parameter.help), f"{words} {parameter.opts[0]}"


def test_bgbench_alone_shows_four_things_that_can_be_typed():
    lines = [line for line in WAYS_TO_START.splitlines() if line.startswith("  ")]
    assert len(lines) == 4
    for line in lines:
        parse(line[line.index("bgbench") :])
