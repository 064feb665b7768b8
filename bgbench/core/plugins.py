"""Finds plugins by entry point, checks that they keep the contract, and refuses duplicate names."""

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import pluggy
import torch

from bgbench.core import hookspecs
from bgbench.core.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractEstimator,
    AbstractSampler,
    Measure,
)
from bgbench.core.errors import (
    BgbenchError,
    BrokenContract,
    BudgetExhausted,
    NonFinite,
    Unsupported,
    describe_failure,
    method_name,
    refuse_other_systems,
    register_name,
    text_of,
)
from bgbench.core.guard import contained
from bgbench.core.hookspecs import (
    PLAIN_NAME,
    SCHEME,
    SYSTEM_NAME,
    VERSIONED_NAME,
    EnergyPlugin,
    EnginePlugin,
    EstimatorPlugin,
    MetricPlugin,
    SamplerPlugin,
    SystemPlugin,
    TrackerPlugin,
)
from bgbench.core.options import describe_known, refuse_unknown_word
from bgbench.core.streams import STDOUT
from bgbench.core.types import Card, Reference, System

T = TypeVar("T")
GROUP = "bgbench"
"""The entry-point group in which distributions name their plugins."""


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from: the entry point's name, its distribution, and the package that it names."""

    plugin: str
    distribution: str
    version: str
    package: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin} of {self.distribution}"


class Registry(Generic[T]):
    """What is registered of one kind, by name, each with its origin.

    Args:
        kind: what an entry is, for messages: `energy`.
        plural: the word of `bgbench list`: `energies`.
        pattern: what names look like.
        broken: a line for each plugin that was not loaded; read when a name is unknown.
    """

    def __init__(self, kind: str, plural: str, pattern: re.Pattern[str], broken: Mapping[str, str]) -> None:
        self.kind, self.plural, self.pattern = kind, plural, pattern
        self._broken = broken
        self._entries: dict[str, tuple[T, Origin]] = {}
        self._disputed: dict[str, str] = {}

    def add(self, name: str, entry: T, origin: Origin) -> None:
        """Register an entry.

        Raises:
            BgbenchError: for a name that is no name; and naming both distributions, if it is registered
                already. Nobody can tell which of the two was meant: from then on it is refused.
        """
        if not isinstance(name, str) or not self.pattern.fullmatch(name):
            raise BgbenchError(f"{self.kind} {name!r} is no name for the command line; {FORMS[self.pattern]}")
        if name in self._entries:
            other = self._entries[name][1]
            self._disputed[name] = (
                f"two plugins register {self.kind} '{name}': {other.distribution} ({other.plugin}) and "
                f"{origin.distribution} ({origin.plugin}); uninstall one of them"
            )
            raise BgbenchError(self._disputed[name])
        self._entries[name] = (entry, origin)

    def remove(self, origin: Origin) -> None:
        """Remove everything of one origin."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry[1] != origin}

    def __getitem__(self, name: str) -> T:
        if name in self._disputed:
            raise BgbenchError(self._disputed[name])
        if name not in self._entries:
            broken = "".join(f"; not loaded: {reason}" for reason in self._broken.values())
            raise BgbenchError(
                f"unknown {self.kind} '{name}'{describe_known(name, self)} "
                f"(see `bgbench list {self.plural}`){broken}"
            )
        return self._entries[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(set(self._entries) - set(self._disputed)))

    def __contains__(self, name: object) -> bool:
        return name in self._entries and name not in self._disputed

    def origin(self, name: str) -> Origin:
        """Where the entry called `name` comes from.

        Raises:
            BgbenchError: for an unknown name.
        """
        self[name]
        return self._entries[name][1]


FORMS: Mapping[re.Pattern[str], str] = {
    PLAIN_NAME: "letters, digits, '.', '_' and '-' make one",
    VERSIONED_NAME: "call the file NAME@1.yaml, of letters, digits, '.', '_' and '-'",
    SYSTEM_NAME: "write FAMILY:NAME, each of letters, digits, '.', '_' and '-'",
    SCHEME: "a scheme of URIs is of lower-case letters, digits, '.' and '-'",
}
"""What a name should have looked like."""


class Plugins:
    """Everything that is registered, by kind.

    Attributes:
        origins: of the plugins that were loaded, by their names.
        broken: a line for each plugin that was not, by its name.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.origins: dict[str, Origin] = {}
        self.broken: dict[str, str] = {}

        def registry(kind: str, plural: str, pattern: re.Pattern[str] = PLAIN_NAME) -> Registry[Any]:
            return Registry(kind, plural, pattern, self.broken)

        self.samplers: Registry[SamplerPlugin] = registry("sampler", "samplers")
        self.energies: Registry[EnergyPlugin] = registry("energy", "energies")
        self.estimators: Registry[EstimatorPlugin] = registry("estimator", "estimators")
        self.metrics: Registry[MetricPlugin] = registry("metric", "metrics")
        self.protocols: Registry[Path] = registry("protocol", "protocols", VERSIONED_NAME)
        self.suites: Registry[Path] = registry("suite", "suites", VERSIONED_NAME)
        self.systems: Registry[SystemPlugin] = registry("system", "systems", SYSTEM_NAME)
        self.trackers: Registry[TrackerPlugin] = registry("tracker", "trackers", SCHEME)
        self.engines: Registry[EnginePlugin] = registry("engine", "engines")

    @property
    def kinds(self) -> Mapping[type, Registry[Any]]:
        """Registries of plugin classes, by the class. Suites and protocols are paths and have none."""
        return {
            SamplerPlugin: self.samplers,
            EnergyPlugin: self.energies,
            EstimatorPlugin: self.estimators,
            MetricPlugin: self.metrics,
            SystemPlugin: self.systems,
            TrackerPlugin: self.trackers,
            EnginePlugin: self.engines,
        }

    @property
    def registries(self) -> Mapping[str, Registry[Any]]:
        """All registries by the word of `bgbench list`, which is also the hook's after `bgbench_`."""
        kinds = (*self.kinds.values(), self.protocols, self.suites)
        return {registry.plural: registry for registry in kinds}

    def register(self, module: Any, origin: Origin) -> None:
        """Register what the hooks of one plugin module return; all of it, or after a mistake nothing.

        Raises:
            BgbenchError: naming the plugin, for a hook that does not exist, lacks its mark, takes arguments,
                raises, or returns anything but a list of its kind; for a module without hooks; and for a name
                that is no name or registered already.
        """
        try:
            self._register(module, origin)
        except (BgbenchError, pluggy.PluginValidationError) as error:
            if self.manager.has_plugin(origin.plugin):
                self.manager.unregister(name=origin.plugin)
            for registry in self.registries.values():
                registry.remove(origin)
            raise BgbenchError(f"{origin}: {_in_one_line(error)}") from error
        self.origins[origin.plugin] = origin

    def _register(self, module: Any, origin: Origin) -> None:
        self.manager.register(module, name=origin.plugin)
        self.manager.check_pending()
        hooks = {f"bgbench_{plural}": registry for plural, registry in self.registries.items()}
        _refuse_unmarked(module, hooks)
        for hook, registry in hooks.items():
            for caller in getattr(self.manager.hook, hook).get_hookimpls():
                if caller.plugin is module:
                    for entry in self._call(caller.function, hook, registry):
                        name = entry.stem if isinstance(entry, Path) else entry.name
                        registry.add(name, entry, origin)

    def _call(self, function: Callable[[], Any], hook: str, registry: Registry[Any]) -> list[Any]:
        """What a hook returns.

        Raises:
            BgbenchError: if the hook raises or returns anything but entries of its kind, or files that do not
                exist.
        """
        kind = next((kind for kind, its in self.kinds.items() if its is registry), Path)
        try:
            with STDOUT.diverted(sys.stderr):
                returned = function()
        except BgbenchError as error:
            raise BgbenchError(f"{hook}: {_in_one_line(error)}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise BgbenchError(f"{hook} raised {describe_failure(error)}; update or uninstall it") from error
        if isinstance(returned, (str, bytes)) or not isinstance(returned, (list, tuple)):
            raise BgbenchError(f"{hook} must return a list of {kind.__name__}, got {returned!r}")
        for entry in returned:
            if not isinstance(entry, kind):
                raise BgbenchError(f"{hook} must return a list of {kind.__name__}, got {entry!r} in it")
            if isinstance(entry, Path) and not entry.is_file():
                raise BgbenchError(f"{hook}: {entry} does not exist; does its package contain the file?")
        return list(returned)


def _refuse_unmarked(module: Any, hooks: Mapping[str, Any]) -> None:
    """Raise BgbenchError for a hook without its mark, which nobody would call, and a module without any."""
    functions = {
        name: value
        for name, value in vars(module).items()
        if name.startswith("bgbench_") and inspect.isfunction(value)
    }
    marked = [name for name, value in functions.items() if getattr(value, f"{GROUP}_impl", None)]
    for name in functions:
        if name not in marked and (name in hooks or not marked):
            raise BgbenchError(f"{name} is not marked as a hook; write @bgbench.hookimpl above it")
    if not marked:
        raise BgbenchError(f"it implements no hook; they are {', '.join(hooks)}")


@cache
def plugins() -> Plugins:
    """The installed plugins, loaded on the first call; bgbench's own entries come first.

    A plugin with a mistake is left out, with a line in `broken`.

    Raises:
        BgbenchError: where the operating system is neither Linux nor macOS.
    """
    refuse_other_systems()
    loaded = Plugins()
    points = entry_points(group=GROUP)
    for point in sorted(points, key=lambda point: (point.name != "core", point.name)):
        origin = Origin(
            point.name,
            point.dist.name if point.dist else "unknown",
            point.dist.version if point.dist else "",
            point.value.partition(":")[0].partition(".")[0],
        )
        try:
            loaded.register(_import(point.load, origin), origin)
        except BgbenchError as error:
            loaded.broken[origin.plugin] = str(error)
    return loaded


def _import(load: Callable[[], Any], origin: Origin) -> Any:
    """The plugin's module.

    Raises:
        BgbenchError: naming the plugin, if it cannot be imported.
    """
    try:
        with STDOUT.diverted(sys.stderr):
            return load()
    except BgbenchError as error:
        raise BgbenchError(f"{origin}: {_in_one_line(error)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BgbenchError(
            f"{origin} could not be imported: {describe_failure(error)}; update or uninstall it"
        ) from error


def _in_one_line(error: BaseException) -> str:
    return " ".join(text_of(error).split())


def call_plugin(origin: Origin, what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a plugin that is not a hook. What it prints goes to standard error.

    Args:
        origin: of the plugin.
        what: what the call does, as it begins the message: "building 'mine'".
        function: the function.
        arguments: its arguments.

    Raises:
        BgbenchError: as the plugin raised it; or naming the plugin and the line, for any other exception but
            a lack of memory and an interrupt.
    """
    with named(origin, what), STDOUT.diverted(sys.stderr):
        return function(*arguments)


@contextmanager
def named(origin: Origin, what: str) -> Iterator[None]:
    """Name the plugin in whatever its code raises in the block.

    Args:
        origin: of the plugin.
        what: what the block does, as it begins the message: "metric 'mine'".

    Raises:
        BgbenchError: as `call_plugin` does.
    """
    try:
        yield
    except (BgbenchError, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt):
        raise
    except (BrokenContract, BudgetExhausted, NonFinite, Unsupported) as error:
        # They are sentences themselves, and may name the plugin already.
        text = text_of(error)
        raise BgbenchError(text if text.startswith(str(origin)) else f"{origin}: {what}: {text}") from error
    except BaseException as error:
        raise BgbenchError(f"{origin}: {what} raised {describe_failure(error)}") from error


def name_plugin(error: BaseException) -> str:
    """The plugin in whose code an exception was raised, and where: empty if it was not in a plugin's.

    Where plugins call each other, as a sampler its energy, it is the innermost one.
    """
    packages = {origin.package: origin for origin in plugins().origins.values() if origin.plugin != "core"}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in packages:
            return f"{packages[package]}, {Path(frame.f_code.co_filename).name} line {line}"
    return ""


def build_plugin(origin: Origin, what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a plugin that builds something, and leave everything global as it was.

    It may draw from global generators, as networks do that are built. Arguments are those of `call_plugin`.

    What it prints goes to standard error.

    Raises:
        BgbenchError: as `call_plugin` does; and if it changed anything global.
    """
    try:
        with contained(f"{origin}: {what}", may_draw=True):
            return call_plugin(origin, what, function, *arguments)
    except BrokenContract as error:
        raise BgbenchError(str(error)) from error


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
    plugin, origin = plugins().samplers[name], plugins().samplers.origin(name)
    sampler: object = build_plugin(origin, f"building sampler '{name}'", plugin.build, options)
    if not isinstance(sampler, AbstractSampler):
        raise BgbenchError(f"{origin}: building '{name}' must give an AbstractSampler, got {sampler!r}")
    register_name(sampler, str(origin), f"sampler '{name}'")
    card: object = call_plugin(origin, f"the card of '{name}'", lambda: sampler.card)
    if not isinstance(card, Card):
        raise BgbenchError(
            f"{origin}: the card of '{name}' must be a bgbench.Card (an attribute or a property), got "
            f"{card!r}"
        )
    if isinstance(sampler, AbstractDensitySampler):
        refuse_unknown_word(method_name(sampler, "measure"), sampler.measure, get_args(Measure))
    return sampler


def build_estimator(name: str, options: Mapping[str, str]) -> AbstractEstimator:
    """Build a registered estimator, and check that it is one.

    Args:
        name: its name, as `bgbench list estimators` prints it.
        options: the words of `--set estimator.NAME=VALUE`.

    Raises:
        BgbenchError: for an unknown estimator or option, and for a plugin that builds something else.

    >>> type(build_estimator("snis", {"cut": "psis"})).__name__
    'SNIS'
    """
    plugin, origin = plugins().estimators[name], plugins().estimators.origin(name)
    estimator = build_plugin(origin, f"building estimator '{name}'", plugin.build, options)
    if not isinstance(estimator, AbstractEstimator):
        raise BgbenchError(f"{origin}: building '{name}' must give an AbstractEstimator, got {estimator!r}")
    register_name(estimator, str(origin), f"estimator '{name}'")
    return estimator


def build_system(name: str) -> System:
    """Build a registered system, and check that it is one of that name.

    Args:
        name: its name, as `bgbench list systems` prints it.

    Raises:
        BgbenchError: for an unknown system, and for a plugin that builds something else.

    >>> build_system("analytic:harmonic").n_atoms
    1
    """
    plugin, origin = plugins().systems[name], plugins().systems.origin(name)
    system = build_plugin(origin, f"building system '{name}'", plugin.build)
    if not isinstance(system, System):
        raise BgbenchError(f"{origin}: building '{name}' must give a bgbench.System, got {system!r}")
    if system.name != name:
        raise BgbenchError(f"{origin}: system '{name}' calls itself '{system.name}'; it has one name")
    return system


def build_reference(name: str) -> Reference:
    """The reference that a registered system comes with, and check that it is one of that system.

    Args:
        name: of a system whose plugin has a reference.

    Raises:
        BgbenchError: for an unknown system, and for a plugin that returns something else.

    >>> build_reference("analytic:harmonic").grade
    'gold'
    """
    plugin, origin = plugins().systems[name], plugins().systems.origin(name)
    make: Callable[[], object] = plugin.reference or (lambda: None)
    made = build_plugin(origin, f"making the reference of '{name}'", make)
    if not isinstance(made, Reference):
        raise BgbenchError(f"{origin}: the reference of '{name}' must be a bgbench.Reference, got {made!r}")
    n_atoms = build_system(name).n_atoms
    if made.x.shape[1] != n_atoms:
        raise BgbenchError(
            f"{origin}: the reference of '{name}' has {made.x.shape[1]} atoms, the system {n_atoms}"
        )
    return made


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
    plugin, origin = plugins().energies[backend], plugins().energies.origin(backend)
    built: object = build_plugin(
        origin, f"building energy '{backend}' of {system.name}", plugin.build, system
    )
    if not isinstance(built, AbstractEnergy):
        raise BgbenchError(f"{origin}: building '{backend}' must give an AbstractEnergy, got {built!r}")
    register_name(built, str(origin), f"energy '{backend}'")
    return built
