"""Finds plugins by entry point, checks that they keep the contract, and refuses duplicate names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import pluggy

from bgbench.core import hookspecs
from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractEstimator,
    AbstractSampler,
    Measure,
)
from bgbench.core.errors import BgbenchError, describe_failure, refuse_other_systems
from bgbench.core.hookspecs import EnergyPlugin, EstimatorPlugin, MetricPlugin, SamplerPlugin, TrackerPlugin
from bgbench.core.options import refuse_unknown_word
from bgbench.core.types import Card, System

T = TypeVar("T")
GROUP = "bgbench"
"""The entry-point group in which distributions name their plugins."""


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from: the entry point's name, and its distribution."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin} of {self.distribution}"


class Registry(Generic[T]):
    """What is registered of one kind, by name, each with its origin.

    Args:
        kind: what an entry is, for messages: `energy`.
        plural: the word of `bgbench list`: `energies`.
    """

    def __init__(self, kind: str, plural: str) -> None:
        self.kind, self.plural = kind, plural
        self._entries: dict[str, tuple[T, Origin]] = {}

    def add(self, name: str, entry: T, origin: Origin) -> None:
        """Register an entry.

        Raises:
            BgbenchError: naming both distributions, if the name is registered already.
        """
        if name in self._entries:
            other = self._entries[name][1]
            raise BgbenchError(
                f"two plugins register {self.kind} '{name}': {other.distribution} ({other.plugin}) and "
                f"{origin.distribution} ({origin.plugin}); uninstall one of them"
            )
        self._entries[name] = (entry, origin)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise BgbenchError(
                f"unknown {self.kind} '{name}'; known: {known} (see `bgbench list {self.plural}`)"
            )
        return self._entries[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def origin(self, name: str) -> Origin:
        """Where the entry called `name` comes from.

        Raises:
            BgbenchError: for an unknown name.
        """
        self[name]
        return self._entries[name][1]


class Plugins:
    """Everything that is registered, by kind."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.origins: dict[str, Origin] = {}
        self.samplers: Registry[SamplerPlugin] = Registry("sampler", "samplers")
        self.energies: Registry[EnergyPlugin] = Registry("energy", "energies")
        self.estimators: Registry[EstimatorPlugin] = Registry("estimator", "estimators")
        self.metrics: Registry[MetricPlugin] = Registry("metric", "metrics")
        self.suites: Registry[Path] = Registry("suite", "suites")
        self.trackers: Registry[TrackerPlugin] = Registry("tracker", "trackers")

    def register(self, module: Any, origin: Origin) -> None:
        """Register what the hooks of one plugin module return.

        Raises:
            BgbenchError: naming the plugin, for a hook that does not exist, takes arguments, raises, or
                returns anything but a list of its kind; and for a name that is registered already.
        """
        try:
            self.manager.register(module, name=origin.plugin)
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BgbenchError(f"{origin}: {_in_one_line(error)}") from error
        self.origins[origin.plugin] = origin
        for hook, registry, kind, name_of in self._kinds():
            for caller in getattr(self.manager.hook, hook).get_hookimpls():
                if caller.plugin is module:
                    for entry in _call(caller.function, hook, kind, origin):
                        registry.add(name_of(entry), entry, origin)

    def _kinds(self) -> tuple[tuple[str, Registry[Any], type, Callable[[Any], str]], ...]:
        """For each hook: where its entries go, what they are, and what they are called."""
        return (
            ("bgbench_samplers", self.samplers, SamplerPlugin, lambda entry: entry.name),
            ("bgbench_energies", self.energies, EnergyPlugin, lambda entry: entry.name),
            ("bgbench_estimators", self.estimators, EstimatorPlugin, lambda entry: entry.name),
            ("bgbench_metrics", self.metrics, MetricPlugin, lambda entry: entry.name),
            ("bgbench_suites", self.suites, Path, lambda path: path.stem),
            ("bgbench_trackers", self.trackers, TrackerPlugin, lambda entry: entry.name),
        )


def _call(function: Callable[[], Any], hook: str, kind: type, origin: Origin) -> list[Any]:
    """What a hook returns.

    Raises:
        BgbenchError: naming the plugin, if the hook raises or returns anything but entries of its kind.
    """
    try:
        entries = list(function())
    except BgbenchError as error:
        raise BgbenchError(f"{origin}: {hook}: {_in_one_line(error)}") from error
    except Exception as error:
        raise BgbenchError(
            f"{origin}: {hook} raised {type(error).__name__}: {_in_one_line(error)}; update or uninstall it"
        ) from error
    for entry in entries:
        if not isinstance(entry, kind):
            raise BgbenchError(f"{origin}: {hook} must return a list of {kind.__name__}, got {entry!r} in it")
    return entries


@cache
def plugins() -> Plugins:
    """The installed plugins, loaded on the first call; bgbench's own entries come first.

    Raises:
        BgbenchError: naming the plugin, if one cannot be imported or does not keep the contract; and where
            the operating system is neither Linux nor macOS.
    """
    refuse_other_systems()
    loaded = Plugins()
    points = entry_points(group=GROUP)
    for point in sorted(points, key=lambda point: (point.name != "core", point.name)):
        origin = Origin(
            point.name,
            point.dist.name if point.dist else "unknown",
            point.dist.version if point.dist else "",
        )
        loaded.register(_import(point.load, origin), origin)
    return loaded


def _import(load: Callable[[], Any], origin: Origin) -> Any:
    """The plugin's module.

    Raises:
        BgbenchError: naming the plugin, if it cannot be imported.
    """
    try:
        return load()
    except BgbenchError as error:
        raise BgbenchError(f"{origin}: {_in_one_line(error)}") from error
    except Exception as error:
        raise BgbenchError(
            f"{origin} could not be imported: {type(error).__name__}: {_in_one_line(error)}; "
            "update or uninstall it"
        ) from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def call_plugin(origin: Origin, what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a plugin that is not a hook.

    Args:
        origin: of the plugin.
        what: what the call does, as it begins the message: "building 'mine'".
        function: the function.
        arguments: its arguments.

    Raises:
        BgbenchError: as the plugin raised it; or naming the plugin and the line, for any other exception.
    """
    try:
        return function(*arguments)
    except BgbenchError:
        raise
    except Exception as error:
        raise BgbenchError(f"{origin}: {what} raised {describe_failure(error)}") from error


def build_estimator(name: str, options: Mapping[str, str]) -> AbstractEstimator:
    """Build a registered estimator, and check that it is one.

    Args:
        name: its name, as `bgbench list estimators` prints it.
        options: the words of `--set estimator.NAME=VALUE`.

    Raises:
        BgbenchError: for an unknown estimator or option, and for a plugin that raises or builds none.
    """
    origin = plugins().estimators.origin(name)
    estimator: object = call_plugin(origin, f"building '{name}'", plugins().estimators[name].build, options)
    if not isinstance(estimator, AbstractEstimator):
        raise BgbenchError(f"{origin}: building '{name}' must give an AbstractEstimator, got {estimator!r}")
    return estimator


def build_sampler(name: str, options: Mapping[str, str]) -> AbstractSampler:
    """Build a registered sampler, and check that it is one.

    Args:
        name: its name, as `bgbench list samplers` prints it.
        options: the words of `--set NAME=VALUE`.

    Raises:
        BgbenchError: for an unknown sampler or option, and for a plugin that raises, that builds something
            else than a sampler, or one whose `card` or `measure` is not of its kind.

    >>> build_sampler("prior", {"width": "0.01"}).card.name
    'prior'
    """
    origin = plugins().samplers.origin(name)
    sampler: object = call_plugin(origin, f"building '{name}'", plugins().samplers[name].build, options)
    if not isinstance(sampler, AbstractSampler):
        raise BgbenchError(f"{origin}: building '{name}' must give an AbstractSampler, got {sampler!r}")
    card: object = call_plugin(origin, f"the card of '{name}'", lambda: sampler.card)
    if not isinstance(card, Card):
        raise BgbenchError(
            f"{origin}: the card of '{name}' must be a bgbench.Card (an attribute or a property), got "
            f"{card!r}"
        )
    if isinstance(sampler, AbstractDensitySampler):
        refuse_unknown_word(f"{origin}: {type(sampler).__name__}.measure", sampler.measure, get_args(Measure))
    return sampler


def energy(system: System, backend: str = "openmm") -> AbstractEnergy:
    """The energy of a system, computed by a registered backend. Nothing meters or limits it.

    It is for training, analysis and notebooks. A sampler asks `task.oracle`: evaluations that it makes here
    while it samples are noticed, and end its cell.

    Args:
        system: the system.
        backend: a name of `bgbench list energies`.

    Returns:
        An energy in kT at the system's temperature.

    Raises:
        BgbenchError: for an unknown backend, naming the known ones; for a system it has no energy of.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> bgbench.energy(system, backend="batched").energy(system.positions[None]).shape
    torch.Size([1])
    """
    origin = plugins().energies.origin(backend)
    target = call_plugin(origin, f"building '{backend}'", plugins().energies[backend].build, system)
    target.is_target = True
    return target
