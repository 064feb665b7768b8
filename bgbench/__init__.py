"""bgbench: the equal-budget benchmark of transferable Boltzmann generators.

Values, interfaces, the plugin contract, and `run`. Beside it stand `bgbench.testing`, the laws that a
plugin's tests subclass, and `bgbench.data`, what trainers need. Names are imported when they are first
used: `import bgbench` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgbench.api import load_run, run, score
    from bgbench.core.abstract import (
        AbstractDensitySampler,
        AbstractEnergy,
        AbstractEstimator,
        AbstractOracle,
        AbstractSampler,
        Conventions,
        Estimate,
        Invertible,
        MetricCase,
        Task,
        Tunable,
    )
    from bgbench.core.errors import BgbenchError, BudgetExhausted, Unsupported
    from bgbench.core.hookspecs import (
        EnergyPlugin,
        EstimatorPlugin,
        MetricPlugin,
        SamplerPlugin,
        SystemPlugin,
        TrackerPlugin,
        hookimpl,
    )
    from bgbench.core.options import parse_options
    from bgbench.core.plugins import energy
    from bgbench.core.types import (
        Atom,
        Card,
        Ensemble,
        ForceFieldSpec,
        Proposal,
        Reference,
        System,
        TicaModel,
        Tuning,
    )
    from bgbench.core.units import kt
    from bgbench.dynamics.tempered import SoluteScaled, Tempered
    from bgbench.energies.minimise import minimise
    from bgbench.energies.openmm import openmm_system
    from bgbench.estimators.weights import ess
    from bgbench.references.providers import find_reference
    from bgbench.systems.encodings import Encoding
    from bgbench.systems.encodings import encode as encode_atoms
    from bgbench.systems.features import torsions
    from bgbench.systems.peptides import peptide

__all__ = [
    "AbstractDensitySampler",
    "AbstractEnergy",
    "AbstractEstimator",
    "AbstractOracle",
    "AbstractSampler",
    "Atom",
    "BgbenchError",
    "BudgetExhausted",
    "Card",
    "Conventions",
    "Encoding",
    "EnergyPlugin",
    "Ensemble",
    "Estimate",
    "EstimatorPlugin",
    "ForceFieldSpec",
    "Invertible",
    "MetricCase",
    "MetricPlugin",
    "Proposal",
    "Reference",
    "SamplerPlugin",
    "SoluteScaled",
    "System",
    "SystemPlugin",
    "Task",
    "Tempered",
    "TicaModel",
    "TrackerPlugin",
    "Tunable",
    "Tuning",
    "Unsupported",
    "__version__",
    "encode_atoms",
    "energy",
    "ess",
    "find_reference",
    "hookimpl",
    "kt",
    "load_run",
    "minimise",
    "openmm_system",
    "parse_options",
    "peptide",
    "run",
    "score",
    "torsions",
]

_HOMES = {
    "AbstractDensitySampler": "core.abstract.AbstractDensitySampler",
    "AbstractEnergy": "core.abstract.AbstractEnergy",
    "AbstractEstimator": "core.abstract.AbstractEstimator",
    "AbstractOracle": "core.abstract.AbstractOracle",
    "AbstractSampler": "core.abstract.AbstractSampler",
    "Atom": "core.types.Atom",
    "BgbenchError": "core.errors.BgbenchError",
    "BudgetExhausted": "core.errors.BudgetExhausted",
    "Card": "core.types.Card",
    "Conventions": "core.abstract.Conventions",
    "Encoding": "systems.encodings.Encoding",
    "EnergyPlugin": "core.hookspecs.EnergyPlugin",
    "Ensemble": "core.types.Ensemble",
    "Estimate": "core.abstract.Estimate",
    "EstimatorPlugin": "core.hookspecs.EstimatorPlugin",
    "ForceFieldSpec": "core.types.ForceFieldSpec",
    "Invertible": "core.abstract.Invertible",
    "MetricCase": "core.abstract.MetricCase",
    "MetricPlugin": "core.hookspecs.MetricPlugin",
    "Proposal": "core.types.Proposal",
    "Reference": "core.types.Reference",
    "SamplerPlugin": "core.hookspecs.SamplerPlugin",
    "SoluteScaled": "dynamics.tempered.SoluteScaled",
    "System": "core.types.System",
    "SystemPlugin": "core.hookspecs.SystemPlugin",
    "Task": "core.abstract.Task",
    "Tempered": "dynamics.tempered.Tempered",
    "TicaModel": "core.types.TicaModel",
    "TrackerPlugin": "core.hookspecs.TrackerPlugin",
    "Tunable": "core.abstract.Tunable",
    "Tuning": "core.types.Tuning",
    "Unsupported": "core.errors.Unsupported",
    "encode_atoms": "systems.encodings.encode",
    "energy": "core.plugins.energy",
    "ess": "estimators.weights.ess",
    "find_reference": "references.providers.find_reference",
    "hookimpl": "core.hookspecs.hookimpl",
    "kt": "core.units.kt",
    "load_run": "api.load_run",
    "minimise": "energies.minimise.minimise",
    "openmm_system": "energies.openmm.openmm_system",
    "parse_options": "core.options.parse_options",
    "peptide": "systems.peptides.peptide",
    "run": "api.run",
    "score": "api.score",
    "torsions": "systems.features.torsions",
}
"""Where each public name lives, below `bgbench`."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        return version("bgbench")
    if name not in _HOMES:
        raise AttributeError(f"module 'bgbench' has no attribute '{name}'")
    module, _, original = _HOMES[name].rpartition(".")
    value = getattr(import_module(f"bgbench.{module}"), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
