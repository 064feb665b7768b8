"""The plugin contract on one page: the nine hooks, and what each of them registers.

A plugin is a module. It implements any of the hooks below, marked with `bgbench.hookimpl`, and its
distribution names it in the entry-point group `bgbench`:

    [project.entry-points.bgbench]
    my_plugin = "my_package.my_module"

bgbench imports the module and calls its hooks once, before anything else is done. bgbench's own samplers,
energies, estimators, metrics, protocols, suites, systems, trackers and reference engines come in through the
same hooks. A hook takes no arguments and returns a list. A plugin with a mistake registers nothing: a module
that cannot be imported, a hook that does not exist, lacks its mark or raises, an entry of another type, a
name that is no name or registered already. `bgbench list` says in one line which plugin that is and why, and
so does the refusal of a name that nobody registered; everything else goes on working.

`tests/example_plugin` implements all nine.

>>> import bgbench
>>> class Copies(bgbench.AbstractSampler):
...     def sample(self, task, n_samples):
...         return bgbench.Proposal(task.system.positions.expand(n_samples, -1, -1))
>>> @bgbench.hookimpl
... def bgbench_samplers():
...     return [bgbench.SamplerPlugin("copies", "the start structure", build=lambda options: Copies())]
>>> bgbench_samplers()[0].build({}).card
Card(name='Copies', training_sequences=(), training_evaluations=0, training_hours=0.0, n_parameters=0, \
weights_sha256='', notes='', run_here=True, uncharged_evaluations=0)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pluggy

from bgbench.core.abstract import AbstractEnergy, AbstractEstimator, AbstractSampler, MetricCase
from bgbench.core.errors import BgbenchError
from bgbench.core.options import refuse_unknown_word
from bgbench.core.simulation import AbstractEngine
from bgbench.core.types import Reference, System

hookspec = pluggy.HookspecMarker("bgbench")
hookimpl = pluggy.HookimplMarker("bgbench")
"""Marks a function of a plugin module as the implementation of the hook of its name."""

Better = Literal["lower", "higher", ""]
"""Which values of a metric are better; empty: it ranks nobody."""

Weights = Literal["equal", "importance", "other"]
"""What the weights of an estimator are: all equal, e^(−u)/q of its proposal, or nothing that follows from
energies and log_q alone."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""Names as they are typed on the command line and stand in tables and file names."""

VERSIONED_NAME = re.compile(r"[A-Za-z0-9][\w.-]*@[1-9]\d*")
"""Names of files that are frozen once results depend on them: suites and protocols."""

SYSTEM_NAME = re.compile(r"[A-Za-z0-9][\w.-]*:[A-Za-z0-9][\w.-]*")
"""Names of registered systems. No sequence of residues has a colon."""

SCHEME = re.compile(r"[a-z][a-z0-9.-]*")
"""Schemes of URIs, in lower case."""


@dataclass(frozen=True)
class SamplerPlugin:
    """A sampler as it is registered, for `bgbench run NAME`.

    What a sampler declares of itself, such as the training it had, is not registered: it is read from the
    sampler that was built (`AbstractSampler.card`).

    Attributes:
        name: its name on the command line and in tables.
        summary: what it is, in half a sentence.
        build: builds the sampler from the words of `--set NAME=VALUE`, usually with `bgbench.parse_options`.
            Weights are read here, and nowhere else. Raises BgbenchError for an option it does not have.
        estimator: name of the estimator that runs use if they name none.
        choose_estimator: returns that name from the words of `--set NAME=VALUE`, for a sampler whose options
            decide it; `estimator` is what `bgbench list` and everyone without options read.
        citation: what to cite.
        control: True for a yardstick that is shown beside samplers but never ranked among them.
        draws_from_reference: True for a control whose frames are of the first of `Reference.halves()`: it is
            judged by the second, and so sits where exact draws do.
        options: the dataclass that `build` reads its words into (`bgbench.parse_options`), so that
            `bgbench options NAME` can list them.
        train: trains from the words of `bgbench train NAME --set …` and returns the weights file.
        import_weights: turns the published weights in its first file into weights in its second, and returns
            the second (`bgbench weights import`).

    Raises:
        BgbenchError: if `estimator` is not a name, or a sampler draws from the reference and is no control.

    >>> import bgbench
    >>> from bgbench.testing import Wide
    >>> plugin = bgbench.SamplerPlugin("wide", "a normal", build=lambda options: Wide([1.0, 1.0, 1.0]))
    >>> plugin.estimator, plugin.control
    ('none', False)
    """

    name: str
    summary: str
    build: Callable[[Mapping[str, str]], AbstractSampler]
    estimator: str = "none"
    citation: str = ""
    control: bool = False
    draws_from_reference: bool = False
    options: type | None = None
    choose_estimator: Callable[[Mapping[str, str]], str] | None = None
    train: Callable[[Mapping[str, str]], Path] | None = None
    import_weights: Callable[[Path, Path], Path] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, str):
            raise BgbenchError(
                f"sampler '{self.name}': estimator must be the name of an estimator, got {self.estimator!r}; "
                "a card is no longer registered, it is the attribute `card` of the sampler"
            )
        if self.draws_from_reference and not self.control:
            raise BgbenchError(
                f"sampler '{self.name}': what draws from the reference is a control; set control=True"
            )

    def estimator_for(self, options: Mapping[str, str]) -> str:
        """The estimator of a run that names none.

        Args:
            options: the words of `--set NAME=VALUE`.

        Returns:
            Its name.
        """
        return self.estimator if self.choose_estimator is None else self.choose_estimator(options)


@dataclass(frozen=True)
class EnergyPlugin:
    """An energy backend as it is registered, for suites and for `bgbench.energy(system, backend=NAME)`.

    Attributes:
        name: its name in suites.
        summary: what it is, in half a sentence.
        build: builds the energy of a system. Raises BgbenchError for a system it has no energy of.

    >>> import bgbench
    >>> from bgbench.systems.analytic import AnalyticEnergy
    >>> bgbench.EnergyPlugin("mine", "systems with known answers", build=AnalyticEnergy).name
    'mine'
    """

    name: str
    summary: str
    build: Callable[[System], AbstractEnergy]


@dataclass(frozen=True)
class EstimatorPlugin:
    """An estimator as it is registered, for `--estimator NAME`.

    Attributes:
        name: its name on the command line and in records.
        summary: what it is, in half a sentence.
        build: builds the estimator from the words of `--set estimator.NAME=VALUE`. Raises BgbenchError for an
            option it does not have.
        citation: what to cite.
        in_order: whether its first points are what a smaller budget would have bought. Error-against-cost
            curves are drawn for such estimators alone.
        options: the dataclass that `build` reads its words into, so that `bgbench options NAME` can list
            them.
        weights: what its weights are: `equal`, `importance` (log w = −u − log q up to a constant) or `other`.
            The leaderboard checks the first two, and shows no ESS of equal weights.

    Raises:
        BgbenchError: for another word in `weights`.

    >>> import bgbench
    >>> from bgbench.estimators.plain import Plain
    >>> bgbench.EstimatorPlugin("mine", "equal weights", build=Plain.build, weights="equal").in_order
    True
    """

    name: str
    summary: str
    build: Callable[[Mapping[str, str]], AbstractEstimator]
    citation: str = ""
    in_order: bool = True
    options: type | None = None
    weights: Weights = "other"

    def __post_init__(self) -> None:
        refuse_unknown_word(f"estimator '{self.name}': weights", self.weights, get_args(Weights))


@dataclass(frozen=True)
class MetricPlugin:
    """A metric as it is registered, for protocols to name.

    A metric is computed in every run whose protocol names it (`metrics:` in the protocol's YAML file).

    Attributes:
        name: its name in protocols, records and tables.
        summary: what it is, in half a sentence.
        compute: named values of a case; the value under the metric's own name is its score, and others are
            its companions in the record. No values at all: the system has nothing to compute it of.
        unit: of the score; empty if it has none.
        better: `lower` or `higher`; empty for a metric that ranks nobody.
        citation: what to cite.
        needs_atoms: True if it is of molecules alone; systems without atoms are judged without it.
        has_floor: True for a distance to the reference that exact draws score above 0. That value is measured
            between halves of the reference and stands beside the score, as its noise floor.

    Raises:
        BgbenchError: for another word in `better`.

    >>> import bgbench
    >>> bgbench.MetricPlugin("gap", "energy gap", lambda case: {"gap": 0.0}, better="lover")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: metric 'gap': better must be one of lower, higher, '', got 'lover'; \
did you mean 'lower'?
    """

    name: str
    summary: str
    compute: Callable[[MetricCase], Mapping[str, float]]
    unit: str = ""
    better: Better = "lower"
    citation: str = ""
    needs_atoms: bool = False
    has_floor: bool = False

    def __post_init__(self) -> None:
        refuse_unknown_word(f"metric '{self.name}': better", self.better, get_args(Better))


@dataclass(frozen=True)
class TrackerPlugin:
    """A tracker as it is registered: it mirrors a run folder to a URI, again and again while the run goes on.

    Attributes:
        name: its name, which is also the scheme of its URIs: `--tracking-uri NAME://…`. In lower case.
        summary: what it is, in half a sentence.
        mirror: called as `mirror(folder, uri, sent)` in a process of its own. `sent` is empty at first; the
            tracker notes in it what it need not send again: under a cell's name, the time at which its record
            was written. It returns None, or a sentence that the user should read.
        schemes: further schemes of its URIs. A driver after `+` is no part of a scheme.

    >>> from pathlib import Path
    >>> import bgbench
    >>> def count_records(folder, uri, sent):
    ...     sent.update({path.stem: path.stat().st_mtime_ns for path in folder.glob("cells/*.json")})
    >>> tracker = bgbench.TrackerPlugin("count", "counts records", mirror=count_records)
    >>> sent = {}
    >>> tracker.mirror(Path("no-such-run"), "count://", sent), sent
    (None, {})
    """

    name: str
    summary: str
    mirror: Callable[[Path, str, dict[str, int]], str | None]
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemPlugin:
    """A system of one's own as it is registered, for the `systems:` list of suites.

    Attributes:
        name: `FAMILY:NAME`, as suites and records call it.
        summary: what it is, in half a sentence.
        build: builds the system, whose name must be this one. It is run at the temperature of the suite.
        reference: returns its reference, where that is drawn or computed and not stored. The temperature of
            such a system is fixed: it is that of the system that `build` returns. Without it, the reference
            is a file, as a peptide's is: `bgbench data simulate NAME` makes it.

    >>> import torch, bgbench
    >>> def argon():
    ...     return bgbench.System("noble:argon", torch.zeros(1, 3), (bgbench.Atom(0, "AR", "AR", "Ar"),))
    >>> bgbench.SystemPlugin("noble:argon", "one atom", build=argon).build().n_atoms
    1
    """

    name: str
    summary: str
    build: Callable[[], System]
    reference: Callable[[], Reference] | None = None


@dataclass(frozen=True)
class EnginePlugin:
    """An engine that simulates references, as it is registered, for `bgbench data simulate --engine NAME`.

    Attributes:
        name: its name on the command line and in certificates.
        summary: what it is, in half a sentence.
        engine: the class. It is called with a system and `SimulationSettings`.
        citation: what to cite.

    >>> from bgbench.data import EnginePlugin
    >>> from bgbench.dynamics.engines import TemperingEngine
    >>> EnginePlugin("mine", "parallel tempering", TemperingEngine).engine.reference_settings().replicas
    16

    Raises:
        BgbenchError: unless `engine` is a class derived from `AbstractEngine`.
    """

    name: str
    summary: str
    engine: type[AbstractEngine]
    citation: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.engine, type) and issubclass(self.engine, AbstractEngine)):
            raise BgbenchError(
                f"engine '{self.name}': engine must be a class derived from bgbench.data.AbstractEngine, got "
                f"{self.engine!r}"
            )


@hookspec
def bgbench_samplers() -> Sequence[SamplerPlugin]:  # type: ignore[empty-body]
    """Samplers: `bgbench run NAME`.

    A sampler that walks and returns its energies names `mcmc` as its estimator, whose errors know that frames
    near in time are alike; one that draws independently without a density names `none`; one with a density
    `snis`.
    """


@hookspec
def bgbench_energies() -> Sequence[EnergyPlugin]:  # type: ignore[empty-body]
    """Energy backends: `energy: NAME` in a suite."""


@hookspec
def bgbench_estimators() -> Sequence[EstimatorPlugin]:  # type: ignore[empty-body]
    """Estimators: `bgbench run SAMPLER --estimator NAME`."""


@hookspec
def bgbench_metrics() -> Sequence[MetricPlugin]:  # type: ignore[empty-body]
    """Metrics: for protocols to name."""


@hookspec
def bgbench_protocols() -> Sequence[Path]:  # type: ignore[empty-body]
    """Protocol files `NAME@VERSION.yaml`: `bgbench run SAMPLER --protocol NAME@VERSION`."""


@hookspec
def bgbench_systems() -> Sequence[SystemPlugin]:  # type: ignore[empty-body]
    """Systems by name: `systems: ["FAMILY:NAME"]` in a suite."""


@hookspec
def bgbench_engines() -> Sequence[EnginePlugin]:  # type: ignore[empty-body]
    """Engines that simulate references: `bgbench data simulate --engine NAME`."""


@hookspec
def bgbench_suites() -> Sequence[Path]:  # type: ignore[empty-body]
    """Suite files `NAME@VERSION.yaml`: `bgbench run SAMPLER --suite NAME`."""


@hookspec
def bgbench_trackers() -> Sequence[TrackerPlugin]:  # type: ignore[empty-body]
    """Trackers that mirror a run folder: `bgbench run SAMPLER --tracking-uri NAME://…`."""
