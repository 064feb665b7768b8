"""What ends a run or a cell, by what to do about it."""

import os
import traceback
from contextlib import suppress
from pathlib import Path


class BgbenchError(Exception):
    """Something that the user can put right: the message says what was wrong and what to do next.

    The command line prints the message in one line and exits with code 2, without a traceback.

    >>> import bgbench
    >>> raise bgbench.BgbenchError("--budget must be at least 1, got -5")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: --budget must be at least 1, got -5
    """


class BudgetExhausted(Exception):
    """An evaluation would have exceeded the energy budget; nothing of it was evaluated or charged.

    >>> from bgbench import BudgetExhausted
    >>> from bgbench.testing import peptide_task
    >>> task = peptide_task("GG", budget=3)
    >>> try:
    ...     task.oracle.charge(4)
    ... except BudgetExhausted as error:
    ...     print(error)
    4 evaluations asked for, 3 left of a budget of 3
    >>> task.oracle.remaining
    3
    """


class Unsupported(Exception):
    """A sampler cannot sample a system. The message is the reason, without the system's name.

    Raised by `AbstractSampler.check_supports`, and by an estimator that needs what the sampler lacks. The
    cell's record says `unsupported`, and no budget is spent.

    >>> from bgbench import Unsupported
    >>> raise Unsupported("molecular dynamics needs a force field")
    Traceback (most recent call last):
    bgbench.core.errors.Unsupported: molecular dynamics needs a force field
    """


class BrokenContract(Exception):
    """A plugin did what none may: changed something global, printed, returned another system's samples."""


class NonFinite(Exception):
    """Nothing usable came out: every energy, density or weight was infinite or NaN."""


def refuse_other_systems(name: str = os.name) -> None:
    """Raise BgbenchError where the operating system is not a POSIX one.

    bgbench locks files, limits processes and ends groups of them as POSIX does.

    >>> refuse_other_systems("nt")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: bgbench runs on Linux and macOS only; on Windows, use it inside WSL
    """
    if name != "posix":
        raise BgbenchError("bgbench runs on Linux and macOS only; on Windows, use it inside WSL")


def writable(text: str) -> str:
    r"""A text in characters that files can hold: lone surrogates, as in some files' names, are written out.

    >>> writable("not \udc80 text")
    'not \\udc80 text'
    """
    return text.encode(errors="backslashreplace").decode()


def visible(text: str) -> str:
    r"""A text in characters that files can hold and terminals show: what would steer a terminal is written
    out, as are lone surrogates.

    >>> visible("\x1b[31mred\n and \udc80")
    '\\x1b[31mred\n and \\udc80'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def shortened(text: str, longest: int) -> str:
    """Beginning and end of a text that is longer than `longest` characters, and how much was left out.

    >>> shortened("a" * 60 + "z", 40)
    'aaaaaaaaaaaaaaaaaaaa… (21 characters left out) …aaaaaaaaaaaaaaaaaaaz'
    """
    if len(text) <= longest:
        return text
    part = longest // 2
    return f"{text[:part]}… ({len(text) - 2 * part:,} characters left out) …{text[-part:]}"


LONGEST = 2_000
"""Characters of an error's message that are kept."""


def text_of(error: BaseException) -> str:
    r"""An exception's message, whatever somebody else's class makes of it: short enough to be read, in
    characters that files can hold and terminals show.

    >>> text_of(ValueError("not \udc80 text"))
    'not \\udc80 text'
    """
    try:
        return visible(shortened(str(error), LONGEST))
    except BaseException:
        return "(its message cannot be shown)"


def kind_of(error: BaseException) -> str:
    """The name of an exception's class, as `text_of` gives its message.

    >>> kind_of(ValueError())
    'ValueError'
    """
    return visible(shortened(type(error).__name__, 200))


def refuse_lost_folder() -> None:
    """Raise BgbenchError where the working folder was deleted: libraries end the process there, in words of
    their own."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise BgbenchError(
            "the working folder does not exist any more; change to another one with cd"
        ) from error


_REGISTERED = "_bgbench_registered"
"""Attribute of what a plugin built: its plugin, and its name there."""


def register_name(built: object, plugin: str, name: str) -> None:
    """Let sentences about what a plugin built name it as it is registered.

    Args:
        built: the sampler, estimator or energy.
        plugin: its plugin: `plugin mine of my-package`.
        name: its kind and name: `sampler 'mine'`.
    """
    # A class may have no room for it, or a rule of its own for attributes.
    with suppress(AttributeError, TypeError):
        object.__setattr__(built, _REGISTERED, (plugin, name))


def pass_name(built: object, other: object) -> None:
    """Register `other`, which `built` made of itself, by the same name."""
    registered = getattr(built, _REGISTERED, None)
    if registered is not None:
        register_name(other, *registered)


def registered_name(built: object) -> str:
    """What a plugin built by kind and name, as it is registered; its class where it is not.

    >>> from bgbench.core.plugins import build_sampler
    >>> registered_name(build_sampler("prior", {})), registered_name(1)
    ("sampler 'prior'", 'int')
    """
    return str(getattr(built, _REGISTERED, ("", type(built).__name__))[1])


def method_name(built: object, method: str) -> str:
    """A method of what a plugin built, as the sentence about what it returned begins.

    >>> from bgbench.core.plugins import build_sampler
    >>> method_name(build_sampler("prior", {}), "draw")
    "plugin controls of bgbench: sampler 'prior': Prior.draw"
    """
    words = [*getattr(built, _REGISTERED, ()), f"{type(built).__name__}.{method}"]
    return ": ".join(words)


def describe_failure(error: BaseException) -> str:
    """An exception of somebody else's code in one line: its kind, its message, and where it was raised.

    >>> try:
    ...     {}["weights"]
    ... except KeyError as error:
    ...     print(describe_failure(error).partition(" (")[0])
    KeyError: 'weights'
    """
    text = " ".join(text_of(error).split())
    message = f"{kind_of(error)}: {text}" if text else kind_of(error)
    frames = traceback.extract_tb(error.__traceback__)
    return f"{message} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else message
