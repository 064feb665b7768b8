"""An installed plugin against the laws of its kind: what fails, why it matters, what to change."""

import inspect
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import SkipTest

from bgbench.authoring.advice import ADVICE, BUILDS, SUPPORTS, WORKERS, Advice
from bgbench.authoring.fresh import draw, draw_in_fresh_process
from bgbench.core.abstract import AbstractDensitySampler, AbstractSampler, refuse_unsupported
from bgbench.core.errors import BgbenchError, BrokenContract, Unsupported, describe_failure, text_of
from bgbench.core.files import Strict
from bgbench.core.guard import restored
from bgbench.core.options import describe_known
from bgbench.core.plugins import build_estimator, build_sampler, plugins
from bgbench.core.streams import STDOUT
from bgbench.runs.distributions import code_sha256
from bgbench.runs.process import limited
from bgbench.runs.provenance import versions
from bgbench.systems.analytic import analytic_system
from bgbench.systems.peptides import peptide

KINDS = ("samplers", "estimators", "metrics", "energies", "suites", "protocols")
"""Kinds that have laws, as `bgbench list` calls them."""

Books = Mapping[str, Sequence[type]]
"""The law books of each kind; those of samplers with a density under `densities`."""

Verdict = Literal["passed", "failed", "skipped"]

TOLERANCE = 1e-4
"""nm by which conformers of two processes may differ."""

FIRST = (
    "test_returns",
    "test_gives",
    "test_energies_are_finite",
    "test_declares",
    "test_refuses",
    "test_leaves",
)
"""How the laws begin that come first: what they say explains why others fail."""

LAST = ("test_samples_or_refuses_every", "test_density", "test_computes")
"""How the laws begin that take long."""


class Finding(Strict):
    """How one law ended.

    `message` says what failed, or why the law was skipped; `why` and `change` are empty where it holds.
    """

    law: str
    topic: str
    verdict: Verdict
    message: str = ""
    why: str = ""
    change: str = ""


class CheckReport(Strict):
    """Every law of one plugin, and which code it was.

    `code_sha256` is the hash of the Python files of the package that registers it, as in the plan of a run.
    """

    schema_version: Literal[1] = 1
    name: str
    kind: str
    distribution: str
    version: str
    code_sha256: str
    options: dict[str, str]
    versions: dict[str, str]
    seconds: float
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether no law failed, and at least one was not skipped."""
        verdicts = {finding.verdict for finding in self.findings}
        return "failed" not in verdicts and "passed" in verdicts

    @property
    def failed(self) -> list[Finding]:
        """The laws that do not hold."""
        return [finding for finding in self.findings if finding.verdict == "failed"]


def kind_of(name: str, kind: str = "") -> str:
    """The kind under which a name is registered.

    Args:
        name: of a plugin.
        kind: one of `KINDS`; empty: the only one that has the name.

    Raises:
        BgbenchError: for a name that is registered nowhere, or under several kinds.
    """
    registries = plugins().registries
    if kind:
        if kind not in KINDS:
            raise BgbenchError(f"--kind {kind}: there are laws for {', '.join(KINDS)}")
        registries[kind][name]
        return kind
    kinds = [each for each in KINDS if name in registries[each]]
    if len(kinds) > 1:
        raise BgbenchError(f"'{name}' is the name of {' and '.join(kinds)}; say which with --kind {kinds[0]}")
    if not kinds:
        known = [each for kind in KINDS for each in registries[kind]]
        broken = "".join(f"; not loaded: {reason}" for reason in plugins().broken.values())
        raise BgbenchError(f"no plugin '{name}' to check{describe_known(name, known)}{broken}")
    return kinds[0]


def check_plugin(
    name: str,
    books: Books,
    kind: str = "",
    options: Mapping[str, str] | None = None,
    seconds: float = 60.0,
    fresh_process: bool = True,
    advanced: Callable[[str], None] = lambda law: None,
) -> CheckReport:
    """Run every law of a plugin's kind against it.

    Args:
        name: as it is registered.
        books: the law books of each kind.
        kind: one of `KINDS`; empty: the only one that has the name.
        options: the words of `--set NAME=VALUE` that samplers and estimators are built with.
        seconds: after which no further law is begun; those left are skipped, and say so.
        fresh_process: whether a sampler is built in a process of its own, too.
        advanced: called with the name of each law before it runs.

    Returns:
        What was found. A law that fails is a finding, never an exception.

    Raises:
        BgbenchError: for a name that is not registered.
    """
    start = time.monotonic()
    kind = kind_of(name, kind)
    words = dict(options or {})
    origin = plugins().registries[kind].origin(name)
    findings: list[Finding] = []
    subject: dict[str, Any] = {}
    with restored(), limited(1), STDOUT.diverted(io.StringIO()):
        try:
            subject = _subject(kind, name, words)
        except Exception as error:
            findings.append(_finding("builds", BUILDS, "failed", _text(error)))
        if subject:
            for law, function in _laws(kind, subject, books):
                advanced(law)
                late = time.monotonic() - start > seconds
                findings.append(_late(law) if late else _run(law, function, subject))
            if kind == "samplers":
                advanced("workers")
                findings += _about_systems(name, words, subject["sampler"], fresh_process)
    return CheckReport(
        name=name,
        kind=kind,
        distribution=origin.distribution,
        version=origin.version,
        code_sha256=code_sha256(origin.package) if origin.package else "",
        options=words,
        versions=versions(),
        seconds=round(time.monotonic() - start, 2),
        findings=findings,
    )


def _subject(kind: str, name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """What the laws are about, by the names of their arguments."""
    entry = plugins().registries[kind][name]
    if kind == "samplers":
        return {"plugin": entry, "sampler": build_sampler(name, options)}
    if kind == "estimators":
        return {"plugin": entry, "estimator": build_estimator(name, options)}
    return {"path": entry} if isinstance(entry, Path) else {"plugin": entry}


def _laws(kind: str, subject: Mapping[str, Any], books: Books) -> Iterator[tuple[str, Callable[..., None]]]:
    """The laws of a kind by name, those first that explain why others fail."""
    dense = isinstance(subject.get("sampler"), AbstractDensitySampler)
    laws = {
        law: getattr(book(), law)
        for book in [*books[kind], *(books["densities"] if dense else ())]
        for law in dir(book)
        if law.startswith("test_")
    }

    def place(law: str) -> int:
        return 0 if law.startswith(FIRST) else 2 if law.startswith(LAST) else 1

    for law in sorted(laws, key=place):
        yield law, laws[law]


def _run(law: str, function: Callable[..., None], subject: Mapping[str, Any]) -> Finding:
    arguments = [subject[word] for word in inspect.signature(function).parameters]
    advice = ADVICE[law]
    try:
        with restored():
            function(*arguments)
    except (SkipTest, Unsupported) as reason:
        return Finding(law=law, topic=advice.topic, verdict="skipped", message=text_of(reason))
    except Exception as error:
        return _finding(law, advice, "failed", _text(error))
    return Finding(law=law, topic=advice.topic, verdict="passed")


def _late(law: str) -> Finding:
    text = "there was no time left; allow more with --seconds"
    return Finding(law=law, topic=ADVICE[law].topic, verdict="skipped", message=text)


def _text(error: Exception) -> str:
    """What failed: the sentence of a law or of the core, or where somebody's code raised what."""
    if isinstance(error, (AssertionError, BgbenchError, BrokenContract)):
        return " ".join(text_of(error).split())
    return f"raised {describe_failure(error)}"


def _finding(law: str, advice: Advice, verdict: Verdict, message: str) -> Finding:
    return Finding(
        law=law,
        topic=advice.topic,
        verdict=verdict,
        message=message,
        why=advice.why,
        change=advice.change,
    )


def _about_systems(
    name: str, options: Mapping[str, str], sampler: AbstractSampler, fresh_process: bool
) -> Iterator[Finding]:
    """Whether the sampler samples anything that it is tried on, and draws the same in a worker."""
    refusals = []
    for system in (peptide("AA"), peptide("GS"), analytic_system("analytic:harmonic")):
        try:
            refuse_unsupported(sampler, system)
        except Exception as error:
            refusals.append(text_of(error))
    if len(refusals) == 3:
        yield _finding("supports_something", SUPPORTS, "failed", f"refuses all it is tried on: {refusals[0]}")
        return
    if any(text.startswith("AA: ") for text in refusals) or not fresh_process:
        return
    law = "draws_the_same_in_a_worker"
    try:
        there, here = draw_in_fresh_process(name, options, "AA"), draw(name, options, "AA")
    except Exception as error:
        yield _finding(law, WORKERS, "failed", f"a fresh process fails: {_text(error)}")
        return
    gap = float((there - here).abs().max()) if there.shape == here.shape else float("inf")
    if gap <= TOLERANCE:
        yield Finding(law=law, topic=WORKERS.topic, verdict="passed")
    else:
        yield _finding(law, WORKERS, "failed", f"in a fresh process conformers lie {gap:.2g} nm away")
