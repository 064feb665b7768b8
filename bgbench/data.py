"""What trainers need: frames and energies of training files, published shards, held-out peptides, the hub.

Plugins that are trained import it beside `bgbench`; samplers that only sample do not.
"""

from bgbench.references.hub import HubFile, fetch, is_hub_address
from bgbench.references.shards import published_atoms, published_frames
from bgbench.references.store import evaluations_of, read_energies, read_frames
from bgbench.references.training import held_out

__all__ = [
    "HubFile",
    "evaluations_of",
    "fetch",
    "held_out",
    "is_hub_address",
    "published_atoms",
    "published_frames",
    "read_energies",
    "read_frames",
]
