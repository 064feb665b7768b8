"""What trainers need: training files, published shards, held-out peptides, the hub, cards of weights.

And what makes reference data: engines; and trajectory files of other programs, with their atoms matched.

Plugins that are trained import it beside `bgbench`, and plugins with an engine; samplers that only sample do
not.
"""

from bgbench.core.devices import find_device
from bgbench.core.hookspecs import EnginePlugin
from bgbench.core.kernels import compiled
from bgbench.core.noise import normal_noise, uniform_noise
from bgbench.core.options import describe_known, refuse_unknown_word
from bgbench.core.resources import data_path
from bgbench.core.simulation import AbstractEngine, SimulationSettings
from bgbench.core.types import tuned_card
from bgbench.references.hub import HubFile, fetch, is_hub_address
from bgbench.references.shards import published_atoms, published_frames
from bgbench.references.store import evaluations_of, read_energies, read_frames
from bgbench.references.training import held_out
from bgbench.references.training_files import (
    TrainingFrames,
    read_training_frames,
    refuse_impossible,
    training_sequence,
)
from bgbench.runs.provenance import provenance
from bgbench.systems.matching import InNanometres, frame_faults, match_atoms, to_nanometres
from bgbench.systems.topology import sequence_of
from bgbench.systems.trajectories import Trajectory, mdtraj_topology, read_arrays, read_trajectory

__all__ = [
    "AbstractEngine",
    "EnginePlugin",
    "HubFile",
    "InNanometres",
    "SimulationSettings",
    "TrainingFrames",
    "Trajectory",
    "compiled",
    "data_path",
    "describe_known",
    "evaluations_of",
    "fetch",
    "find_device",
    "frame_faults",
    "held_out",
    "is_hub_address",
    "match_atoms",
    "mdtraj_topology",
    "normal_noise",
    "provenance",
    "published_atoms",
    "published_frames",
    "read_arrays",
    "read_energies",
    "read_frames",
    "read_training_frames",
    "read_trajectory",
    "refuse_impossible",
    "refuse_unknown_word",
    "sequence_of",
    "to_nanometres",
    "training_sequence",
    "tuned_card",
    "uniform_noise",
]
