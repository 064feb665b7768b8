"""Comparability: what must be equal for two runs to share a table, as one value, and how two of them differ.

`compare`, `curve`, `breakeven`, the board and the README's tables all ask this value and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.core.types import Suite
from bgbench.evaluation.suites import load_suite
from bgbench.references.superseded import describe_superseded
from bgbench.runs.records import Record
from bgbench.runs.runfolder import Plan, RunFolder
from bgbench.systems.named import has_own_reference

SHOWN = 12
"""Digits of a hash that are shown."""


@dataclass(frozen=True)
class Comparability:
    """What must be equal for two runs to share a table.

    Runs may be of different systems of a suite: they share a table over the systems that both have. What was
    not recorded, as by older versions, is empty and differs from nothing; `unrecorded` names it.

    Attributes:
        suite: `name@version`.
        suite_sha256: hash of the suite's file.
        protocol: `name@version`.
        protocol_sha256: hash of the protocol's file.
        budget: energy evaluations of each cell.
        temperature: in K.
        energy: name of the energy backend.
        forcefield: name and hash of the suite's force field; empty if the suite's file is not at hand.
        references: for each system the sha256 of its reference; empty if it was not recorded.
        log_q: `exact`, also for samplers without a density; `an estimate` where its weights are biased.
        uncharged: energy evaluations of each cell that the budget did not pay for, as the card says.

    >>> from bgbench.evaluation.cell import Cell
    >>> from bgbench.runs.runfolder import Inputs, new_plan
    >>> def plan(budget, **references):
    ...     cell = Cell(sampler="md", estimator="mcmc", protocol="bgbench@1", suite="mine@1", system="AA",
    ...                 budget=budget, seed=0, temperature=310.0, energy="batched")
    ...     return new_plan([cell], "5af3", inputs=Inputs(references=references))
    >>> short, long = Comparability.of(plan(100, AA="3f2c")), Comparability.of(plan(2000, AA="77aa"))
    >>> for sentence in short.differences(long, "runs/short", "runs/long"):
    ...     print(sentence)
    the budget is 100 evaluations in runs/short and 2,000 evaluations in runs/long
    the reference of AA is 3f2c in runs/short and 77aa in runs/long
    >>> short.unrecorded
    ("the protocol's file", 'the force field')
    """

    suite: str
    suite_sha256: str
    protocol: str
    protocol_sha256: str
    budget: int
    temperature: float
    energy: str
    forcefield: str
    references: tuple[tuple[str, str], ...]
    log_q: Literal["exact", "an estimate"] = "exact"
    uncharged: int = 0

    @classmethod
    def of(cls, plan: Plan, records: Sequence[Record] = (), folder: Path | None = None) -> "Comparability":
        """The value of a plan.

        Args:
            plan: of the run.
            records: of its finished cells. They say whether log q was exact, and name the references that
                the plan of an older version lacks.
            folder: of the run, which may hold its own copy of the suite's file.
        """
        cell = plan.cells[0]
        judged_on = {record.cell.system: str(record.reference.get("sha256", "")) for record in records}
        known = {**judged_on, **plan.inputs.references}
        return cls(
            suite=plan.suite,
            suite_sha256=plan.suite_sha256,
            protocol=plan.protocol,
            protocol_sha256=plan.inputs.protocol_sha256,
            budget=plan.budget,
            temperature=_temperature_of(plan, folder),
            energy=cell.energy,
            forcefield=_forcefield_of(plan, folder),
            references=tuple((name, known.get(name, "")) for name in _systems_of(plan)),
            log_q="exact" if all(record.exact for record in records) else "an estimate",
            uncharged=max(
                (int(record.card.get("uncharged_evaluations", 0)) for record in records), default=0
            ),
        )

    def differences(
        self, other: "Comparability", name: str = "one run", other_name: str = "the other"
    ) -> list[str]:
        """A sentence with both values for everything that keeps the two from one table.

        Args:
            other: of the other run.
            name: what sentences call the run of this value.
            other_name: what sentences call the other run.

        Returns:
            The sentences; none where the two can share a table.
        """
        sentences = []
        for what in TERMS:
            one, two = self._in_words(what), other._in_words(what)
            # Files of two suites or protocols differ, of course.
            of = what.removesuffix("'s file")
            if one and two and one != two and (of == what or self._in_words(of) == other._in_words(of)):
                sentences.append(f"the {what} is {one} in {name} and {two} in {other_name}")
        mine, theirs = dict(self.references), dict(other.references)
        if systems := [
            system for system in mine if mine[system] and theirs.get(system) not in (None, "", mine[system])
        ]:
            first = systems[0]
            several = "" if len(systems) == 1 else f"references of {', '.join(systems)} differ: the "
            sentences.append(
                f"the {several}reference of {first} is {mine[first][:SHOWN]} in {name} and "
                f"{theirs[first][:SHOWN]} in {other_name}"
            )
        return sentences

    def _in_words(self, what: str) -> str:
        return {
            "suite": self.suite,
            "suite's file": self.suite_sha256[:SHOWN],
            "protocol": self.protocol,
            "protocol's file": self.protocol_sha256[:SHOWN],
            "budget": f"{self.budget:,} evaluations",
            "temperature": f"{self.temperature:g} K",
            "energy": self.energy,
            "force field": self.forcefield,
            "log q": self.log_q,
            "work beyond the budget": f"{self.uncharged:,} evaluations" if self.uncharged else "none",
        }[what]

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """What was not recorded, in words: it may differ, and nobody can tell."""
        lacking = [what for what in TERMS if not self._in_words(what)]
        systems = [name for name, sha256 in self.references if not sha256 and not has_own_reference(name)]
        return (
            *(f"the {what}" for what in lacking),
            *([f"the references of {', '.join(systems)}"] if systems else []),
        )

    @property
    def superseded(self) -> tuple[str, ...]:
        """A sentence for each reason why packaged references that judged the run were replaced since."""
        return tuple(describe_superseded(self.references))

    @property
    def title(self) -> str:
        """The terms in one line."""
        return f"{self.suite} · {self.protocol} · {self.budget:,} evaluations · {self.temperature:g} K"


TERMS = (
    "suite", "suite's file", "protocol", "protocol's file", "budget", "temperature", "energy", "force field",
    "log q", "work beyond the budget",
)  # fmt: skip
"""What is compared besides the references."""


def _systems_of(plan: Plan) -> list[str]:
    return list(dict.fromkeys(cell.system for cell in plan.cells))


def _suite_of(plan: Plan, folder: Path | None) -> Suite | None:
    """The suite of a plan, if the file at hand is the planned one."""
    has_copy = folder is not None and (folder / f"{plan.suite}.yaml").is_file()
    if not has_copy and plan.suite not in plugins().suites:
        return None
    suite = load_suite(plan.suite, folder)
    return suite if suite.sha256 == plan.suite_sha256 else None


def _forcefield_of(plan: Plan, folder: Path | None) -> str:
    """Name and hash of the suite's force field, and of those that systems have of their own; empty if the
    suite's file is not at hand."""
    suite = _suite_of(plan, folder)
    if suite is None:
        return ""
    fields = dict.fromkeys([suite.forcefield, *(suite.forcefield_of(name) for name in suite.systems)])
    return ", ".join(f"{spec.name} {spec.sha256[:SHOWN]}" for spec in fields)


def _temperature_of(plan: Plan, folder: Path | None) -> float:
    """The temperature of the cells in K; the suite's, where each system has the one that it has there."""
    suite = _suite_of(plan, folder)
    if suite and all(cell.temperature == suite.temperature_of(cell.system) for cell in plan.cells):
        return suite.temperature
    return plan.cells[0].temperature


def comparability_of(folder: RunFolder) -> Comparability:
    """The value of a run, with what its records say.

    Raises:
        BgbenchError: for a damaged record.
    """
    return Comparability.of(folder.plan, folder.records(), folder.path)


def refuse_unlike(folders: Sequence[RunFolder]) -> None:
    """Raise BgbenchError unless all runs can share a table, with every difference of the first two that
    cannot."""
    values = [(str(folder.path), comparability_of(folder)) for folder in folders]
    for (name, one), (other_name, other) in combinations(values, 2):
        if sentences := one.differences(other, name, other_name):
            raise BgbenchError(
                f"these runs cannot share a table: {'; '.join(sentences)}; run one of them again to match "
                "the other, or leave it out"
            )


def caveats(runs: Mapping[str, RunFolder]) -> list[str]:
    """A sentence for what cannot be known of runs in one table, for references that were replaced since, and
    for each density that is not verified.

    Args:
        runs: by the name that sentences call them.
    """
    sentences = []
    for name, folder in runs.items():
        records = folder.records()
        terms = Comparability.of(folder.plan, records, folder.path)
        if terms.unrecorded:
            sentences.append(f"{name}: not recorded, and taken to be equal: {', '.join(terms.unrecorded)}")
        sentences += [f"{name}: {sentence}; run it again for today's" for sentence in terms.superseded]
        if cells := not_verified(records):
            sentences.append(
                f"{name}: the audit of its density failed in {', '.join(cells)}; its weights may be biased "
                f"(`bgbench audit {folder.plan.sampler}`)"
            )
    return sentences


def not_verified(records: Iterable[Record]) -> list[str]:
    """The cells whose density failed its audit."""
    return [
        record.cell.name
        for record in records
        if record.diagnostics.get("density", {}).get("verified") is False
    ]
