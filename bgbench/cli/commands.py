"""Typer's applications, except that an option which has one value cannot be repeated, and that help shows no
value of flags, which have none.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bgbench.core.errors import BgbenchError

Device = Annotated[
    str,
    typer.Option(help="where the sampler computes: auto (a GPU where there is one), cpu, cuda or cuda:K"),
]


class Command(TyperCommand):
    """A command that refuses a repeated option; Typer itself takes the last value and drops the others."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line.

        Raises:
            BgbenchError: for an option that is there twice and can have one value only.
        """
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        single = [p for p in order if p.param_type_name == "option" and not getattr(p, "multiple", False)]
        for parameter in single:
            if single.count(parameter) > 1 and not getattr(parameter, "is_flag", False):
                name = parameter.opts[0]
                raise BgbenchError(f"{name} is there twice and has one value only; leave one of them out")
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, flags without a value."""
        return _flags_without_value(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands, in whose help flags have no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, flags without a value."""
        return _flags_without_value(super().get_params(ctx))


def _flags_without_value(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class App(typer.Typer):
    """A Typer application whose commands are `Command`s, in a `Group`."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"cls": Group, **keywords})

    def command(self, name: str | None = None, *, example: str, **keywords: Any) -> Callable[[Any], Any]:  # type: ignore[override]
        """Make a function a command, as `typer.Typer.command` does, with an example below its help."""
        return super().command(name, **{"cls": Command, "epilog": f"Example: {example}", **keywords})
