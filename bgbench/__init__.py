"""bgbench: the equal-budget benchmark of transferable Boltzmann generators."""

from bgbench.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractEstimator,
    AbstractOracle,
    AbstractSampler,
    Conventions,
    EnergyPlugin,
    Estimate,
    EstimatorPlugin,
    MetricCase,
    MetricPlugin,
    SamplerPlugin,
    Task,
    TrackerPlugin,
)
from bgbench.chemistry import Atom, Encoding
from bgbench.chemistry import encode as encode_atoms
from bgbench.errors import BgbenchError, BudgetExhausted
from bgbench.hookspecs import hookimpl
from bgbench.plugins import energy
from bgbench.types import (
    Card,
    Ensemble,
    ForceFieldSpec,
    Proposal,
    Reference,
    Suite,
    System,
    TicaModel,
)

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
    "MetricCase",
    "MetricPlugin",
    "Proposal",
    "Reference",
    "SamplerPlugin",
    "Suite",
    "System",
    "Task",
    "TicaModel",
    "TrackerPlugin",
    "encode_atoms",
    "energy",
    "hookimpl",
]
