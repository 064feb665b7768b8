"""bgbench: the equal-budget benchmark of transferable Boltzmann generators."""

from bgbench.abstract import (
    AbstractDensitySampler,
    AbstractEnergy,
    AbstractEstimator,
    AbstractOracle,
    AbstractSampler,
    Conventions,
    Estimate,
    MetricCase,
    Task,
)
from bgbench.api import run
from bgbench.chemistry import Atom, Encoding
from bgbench.chemistry import encode as encode_atoms
from bgbench.chemistry.features import torsions
from bgbench.dynamics.tempered import Tempered
from bgbench.dynamics.tempering import ladder
from bgbench.energies.minimise import minimise
from bgbench.energies.openmm import openmm_system
from bgbench.errors import BgbenchError, BudgetExhausted
from bgbench.hookspecs import hookimpl
from bgbench.hub import HubFile, fetch, is_hub_address
from bgbench.plugins import energy
from bgbench.provenance import provenance
from bgbench.references.providers import find_reference
from bgbench.references.shards import published_atoms, published_frames
from bgbench.references.store import evaluations_of, read_energies, read_frames
from bgbench.references.training import held_out
from bgbench.registered import EnergyPlugin, EstimatorPlugin, MetricPlugin, SamplerPlugin, TrackerPlugin
from bgbench.resources import data_path
from bgbench.types import (
    Card,
    Ensemble,
    ForceFieldSpec,
    Proposal,
    Reference,
    Suite,
    System,
    TicaModel,
    Tuning,
    tuned_card,
)
from bgbench.units import kt

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
    "HubFile",
    "MetricCase",
    "MetricPlugin",
    "Proposal",
    "Reference",
    "SamplerPlugin",
    "Suite",
    "System",
    "Task",
    "Tempered",
    "TicaModel",
    "TrackerPlugin",
    "Tuning",
    "data_path",
    "encode_atoms",
    "energy",
    "evaluations_of",
    "fetch",
    "find_reference",
    "held_out",
    "hookimpl",
    "is_hub_address",
    "kt",
    "ladder",
    "minimise",
    "openmm_system",
    "provenance",
    "published_atoms",
    "published_frames",
    "read_energies",
    "read_frames",
    "run",
    "torsions",
    "tuned_card",
]
