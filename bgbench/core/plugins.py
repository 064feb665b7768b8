"""Finds plugins by entry point, checks the contract, and refuses duplicate names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

from bgbench.core import hookspecs
from bgbench.core.abstract import AbstractEnergy
from bgbench.core.errors import BgbenchError
from bgbench.core.hookspecs import EnergyPlugin, EstimatorPlugin, MetricPlugin, SamplerPlugin, TrackerPlugin
from bgbench.core.types import System

T = TypeVar("T")
GROUP = "bgbench"


@dataclass(frozen=True)
class Origin:
    """The distribution a plugin came from."""

    plugin: str
    distribution: str
    version: str


class Registry(Generic[T]):
    """Named entries of one kind with their origins."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[T, Origin]] = {}

    def add(self, name: str, entry: T, origin: Origin) -> None:
        """Register; a name that is taken raises BgbenchError naming both distributions."""
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
                f"unknown {self.kind} '{name}'; known: {known} (see `bgbench list {self.kind}s`)"
            )
        return self._entries[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def origin(self, name: str) -> Origin:
        """Which distribution registered `name`."""
        self[name]
        return self._entries[name][1]


class Plugins:
    """Everything registered, by kind."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.origins: dict[str, Origin] = {}
        self.samplers: Registry[SamplerPlugin] = Registry("sampler")
        self.energies: Registry[EnergyPlugin] = Registry("energy")
        self.estimators: Registry[EstimatorPlugin] = Registry("estimator")
        self.metrics: Registry[MetricPlugin] = Registry("metric")
        self.suites: Registry[Path] = Registry("suite")
        self.trackers: Registry[TrackerPlugin] = Registry("tracker")

    def register(self, module: Any, origin: Origin) -> None:
        """Register one plugin module; a misspelt hook or a duplicate name raises BgbenchError."""
        self.manager.register(module, name=origin.plugin)
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BgbenchError(f"plugin {origin.plugin} of {origin.distribution}: {error}") from error
        self.origins[origin.plugin] = origin
        self._collect(module, origin)

    def _collect(self, module: Any, origin: Origin) -> None:
        kinds: tuple[tuple[str, Registry[Any], Callable[[Any], str]], ...] = (
            ("bgbench_samplers", self.samplers, lambda entry: entry.name),
            ("bgbench_energies", self.energies, lambda entry: entry.name),
            ("bgbench_estimators", self.estimators, lambda entry: entry.name),
            ("bgbench_metrics", self.metrics, lambda entry: entry.name),
            ("bgbench_suites", self.suites, lambda path: path.stem),
            ("bgbench_trackers", self.trackers, lambda entry: entry.name),
        )
        for hook, registry, name_of in kinds:
            for caller in getattr(self.manager.hook, hook).get_hookimpls():
                if caller.plugin is module:
                    for entry in caller.function():
                        registry.add(name_of(entry), entry, origin)


@cache
def plugins() -> Plugins:
    """The installed plugins, loaded on the first call."""
    found = Plugins()
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name != "core", point.name)):
        origin = Origin(
            point.name,
            point.dist.name if point.dist else "unknown",
            point.dist.version if point.dist else "",
        )
        try:
            module = point.load()
        except Exception as error:
            raise BgbenchError(
                f"plugin {point.name} of {origin.distribution} could not be imported: "
                f"{type(error).__name__}: {error}; uninstall it or mend it"
            ) from error
        found.register(module, origin)
    return found


def energy(system: System, backend: str = "openmm") -> AbstractEnergy:
    """The energy of `system` computed by a registered backend.

    Raises:
        BgbenchError: for an unknown backend, naming the known ones.
    """
    return plugins().energies[backend].build(system)
