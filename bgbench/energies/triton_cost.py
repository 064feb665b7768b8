"""What the Triton kernels compute and move for a conformer: the limit of a GPU for energies with forces.

One operation is a sum, a product, a quotient, a comparison, a choice, a root, an exponential or a logarithm;
a fused multiply-add is two, as in the peak that makers of GPUs print. Addresses are not counted. Of an
H100's 67 TFLOP/s and 3.35 TB/s the operations are the scarcer one by far, and since few of them can be fused,
half of that limit is what to expect at best.

What is issued bounds it closer: compiled for sm_90 by Triton 3.9, the innermost loops of the three passes are
473, 245 and 695 instructions for ROWS pairs, or 353 a pair and warp of 32 conformers. An H100 issues four a
clock on each of 132 multiprocessors.
"""

from typing import NamedTuple

from bgbench.energies.parameters import Parameters

OPERATIONS = {
    "pairs": 80,
    "solvation": 50,
    "chain": 115,
    "bond": 31,
    "exception": 38,
    "angle": 109,
    "torsion": 190,
}
"""Operations for an ordered pair in each pass, and for each atom of a term."""

BYTES = {"in": 24, "bonded": 32, "pairs": 60, "solvation": 64, "chain": 40, "out": 40}
"""Bytes an atom: read and written in each pass if what programs share is read from memory once.

Positions and forces are 12, energies 8, Born radii and their derivatives 4.
"""


class Cost(NamedTuple):
    """Operations and bytes of memory for the energy and the forces of one conformer."""

    operations: float
    bytes: float

    def limit(self, operations_per_second: float, bytes_per_second: float) -> float:
        """Conformers per second that a device with these peaks could compute at most.

        >>> Cost(operations=2e6, bytes=1e4).limit(60e12, 3e12)
        30000000.0
        """
        return min(operations_per_second / self.operations, bytes_per_second / self.bytes)


def cost_of_forces(parameters: Parameters) -> Cost:
    """Cost of energy and forces under these parameters.

    >>> from bgbench import peptide
    >>> from bgbench.energies.openmm import openmm_system
    >>> from bgbench.energies.parameters import read_parameters
    >>> cost = cost_of_forces(read_parameters(openmm_system(peptide("AA"))))
    >>> cost
    Cost(operations=175566, bytes=5980)
    """
    p, n = parameters, parameters.n_atoms
    passes = ["pairs", "solvation", "chain"] if p.born is not None else ["pairs"]
    # The pass over an atom's pairs meets the atom itself.
    operations = n * n * sum(OPERATIONS[name] for name in passes)
    for kind, terms in (
        ("bond", p.bonds),
        ("exception", p.exceptions),
        ("angle", p.angles),
        ("torsion", p.torsions),
    ):
        operations += OPERATIONS[kind] * terms.size
    return Cost(operations, n * sum(BYTES[name] for name in ("in", "bonded", *passes, "out")))
