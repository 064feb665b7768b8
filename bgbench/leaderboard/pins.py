"""What to install to get a sampler again, in parts: commands are built from these and never from text."""

import re
import shlex
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from bgbench.runs.distributions import UNPUBLISHED

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
"""Names of distributions (PEP 508)."""

COMMIT = re.compile(r"[0-9a-f]{40}")

REPOSITORY = re.compile(
    r"git\+(?:https|ssh)://(?:[A-Za-z0-9_-]{1,40}@)?[A-Za-z0-9.-]{1,100}(?::\d{1,5})?(?:/[A-Za-z0-9._~-]{1,100}){1,8}"
    r"@[0-9a-f]{40}(?:#subdirectory=[A-Za-z0-9._-]{1,100}(?:/[A-Za-z0-9._-]{1,100}){0,8})?"
)
"""A commit of a repository, all forty digits of it, as pip reads it."""


@dataclass(frozen=True)
class Pin:
    """A distribution, its version, and where it is from.

    `source`: empty for a package index, a commit of bgbench's own repository, the address of a repository
    with a commit, or UNPUBLISHED.
    """

    distribution: str
    version: str
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """The pin that `NAME==VERSION`, with ` @ SOURCE` or without, says.

        Raises:
            ValueError: for anything else, in a sentence.

        >>> Pin.parse("mine==1.0 @ not published")
        Pin(distribution='mine', version='1.0', source='not published')
        """
        package, at, source = text.partition(" @ ")
        name, _, version = package.partition("==")
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is no name of a distribution; write NAME==VERSION")
        try:
            if str(Version(version)) != version:
                raise InvalidVersion(version)
        except InvalidVersion as error:
            raise ValueError(f"{version[:60]!r} is no version; write NAME==VERSION") from error
        known = COMMIT.fullmatch(source) or REPOSITORY.fullmatch(source) or source == UNPUBLISHED
        if at and not known:
            raise ValueError(
                f"{source[:60]!r} is neither 40 digits of a commit nor git+https://HOST/PATH@COMMIT"
            )
        return cls(name, version, source)

    @property
    def command(self) -> str:
        """The command that installs it, or a remark that nobody can.

        >>> Pin.parse("mine==1.0").command
        'pip install mine==1.0'
        """
        package = f"{self.distribution}=={self.version}"
        if self.source == UNPUBLISHED:
            return f"# {package} is {UNPUBLISHED}: ask the authors for it"
        if COMMIT.fullmatch(self.source):
            return f"pip install {package}  # commit {self.source}"
        if self.source:
            return (
                f"pip install {shlex.quote(f'{self.distribution} @ {self.source}')}  # version {self.version}"
            )
        return f"pip install {package}"
