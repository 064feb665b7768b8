"""What is wrong with conformers, in eight bits each: chirality, bonds, clashes, numbers, copies."""

import numpy as np
import torch
from torch import Tensor

from bgbench.core.types import System
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.chirality import is_mirrored, is_wrong

CONTACT = 0.08
"""Distance (nm) below which two atoms that are not bonded clash."""

CHUNK = 8_192
"""Conformers that are looked at together."""

BITS = {"wrong_hand": 1, "torn": 2, "clash": 4, "nonfinite": 8, "unrepairable": 16, "copy": 32}
"""Bit of each fault. `unrepairable`: a wrong chirality that the mirror image does not put right. `copy`: the
conformer is one of an earlier point, to the bit; it is no fault of validity."""


def clashing(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where two atoms without a bond are nearer than CONTACT."""
    bonded = set(system.bonds)
    pairs = torch.triu_indices(system.n_atoms, system.n_atoms, 1)
    free = torch.tensor([(int(a), int(b)) not in bonded for a, b in pairs.T])
    i, j = pairs[:, free]
    chunks = [((c[:, i] - c[:, j]).square().sum(-1).min(1).values < CONTACT**2) for c in x.split(1024)]
    return torch.cat(chunks)


def find_faults(system: System, x: Tensor, u: Tensor) -> Tensor:
    """Faults of conformers, all but copies.

    Args:
        system: whose conformers they are; one without atoms has numbers alone.
        x: `(n, atoms, 3)` nm.
        u: their energies `(n,)` in kT.

    Returns:
        `(n,)` uint8, sums of `BITS`.

    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> x = torch.stack([system.positions, -system.positions, 2 * system.positions])
    >>> find_faults(system, x, torch.zeros(3)).tolist()
    [0, 1, 2]
    """
    parts = [_faults(system, *part) for part in zip(x.split(CHUNK), u.split(CHUNK), strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.uint8)


def _faults(system: System, x: Tensor, u: Tensor) -> Tensor:
    flags = {"nonfinite": ~torch.isfinite(u) | ~torch.isfinite(x).flatten(1).all(1)}
    if system.atoms:
        flags["wrong_hand"] = is_wrong(system, x)
        flags["torn"] = has_broken_bonds(system.bonds, system.positions, x)
        flags["clash"] = clashing(system, x)
        flags["unrepairable"] = flags["wrong_hand"] & ~is_mirrored(system, x)
    faults = torch.zeros(len(x), dtype=torch.uint8)
    for name, flag in flags.items():
        faults |= flag.cpu().to(torch.uint8) * BITS[name]
    return faults


def has_fault(faults: Tensor, name: str) -> Tensor:
    """`(n,)` True where `faults (n,)` have the fault of this name.

    >>> has_fault(torch.tensor([0, 3, 4], dtype=torch.uint8), "torn").tolist()
    [False, True, False]
    """
    return (faults & BITS[name]) != 0


def fingerprints(x: Tensor) -> np.ndarray:
    """`(n,)` uint64 of conformers, equal where their positions are equal to the bit of a float32.

    Two that differ have equal ones with a probability of about n²/10²⁰.
    """
    words = np.ascontiguousarray(x.detach().float().flatten(1).numpy()).view(np.uint32)
    odd = np.random.Generator(np.random.PCG64(1)).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    hashes = (words * odd).sum(1, dtype=np.uint64)
    # Products of one word and an odd number keep low bits apart; a last mixing spreads them.
    return (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def mark_copies(faults: Tensor, prints: np.ndarray) -> Tensor:
    """`faults (n,)` with the bit of those points whose fingerprint `(n,)` an earlier one has.

    >>> x = torch.tensor([1.0, 2.0, 1.0])[:, None, None].expand(3, 2, 3)
    >>> mark_copies(torch.zeros(3, dtype=torch.uint8), fingerprints(x)).tolist()
    [0, 0, 32]
    """
    copies = np.ones(len(prints), dtype=bool)
    copies[np.unique(prints, return_index=True)[1]] = False
    return faults | torch.from_numpy(copies.astype(np.uint8) * np.uint8(BITS["copy"]))
