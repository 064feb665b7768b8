"""What is wrong with a submission: a reason of the rules, where, and a sentence."""

from dataclasses import dataclass

from bgbench.core.errors import BgbenchError


def printable(text: str) -> str:
    """`text` on one line, without what terminals and the logs of workflows take for commands.

    >>> printable("AA-s0" + chr(10) + "::error::x")
    'AA-s0\\\\n: :error: :x'
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line.replace("::", ": :").replace("##[", "## [")


@dataclass(frozen=True)
class Problem:
    """`reason` is a key of `rules.REASONS`."""

    reason: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{printable(self.where)}: {printable(self.text)} [{self.reason}]"


class Refused(BgbenchError):
    """A submission that the board does not take, with every problem."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"refused: {problems[0]}{rest}")


def refusal(reason: str, where: str, text: str) -> Refused:
    """Make the exception for one problem: `raise refusal(…)`."""
    return Refused(Problem(reason, where, text))
