"""bgbench: the equal-budget benchmark of transferable Boltzmann generators."""

from bgbench.api import run
from bgbench.core.abstract import (
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
from bgbench.core.errors import BgbenchError, BudgetExhausted
from bgbench.core.hookspecs import (
    EnergyPlugin,
    EstimatorPlugin,
    MetricPlugin,
    SamplerPlugin,
    TrackerPlugin,
    hookimpl,
)
from bgbench.core.plugins import energy
from bgbench.core.resources import data_path
from bgbench.core.types import (
    Atom,
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
from bgbench.core.units import kt
from bgbench.dynamics.tempered import Tempered
from bgbench.dynamics.tempering import ladder
from bgbench.energies.minimise import minimise
from bgbench.energies.openmm import openmm_system
from bgbench.references.hub import HubFile, fetch, is_hub_address
from bgbench.references.providers import find_reference
from bgbench.references.shards import published_atoms, published_frames
from bgbench.references.store import evaluations_of, read_energies, read_frames
from bgbench.references.training import held_out
from bgbench.runs.provenance import provenance
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
    "peptide",
    "provenance",
    "published_atoms",
    "published_frames",
    "read_energies",
    "read_frames",
    "run",
    "torsions",
    "tuned_card",
]
