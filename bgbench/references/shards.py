"""The published training frames, `transferable-samplers/many-peptides-md`: web-dataset shards.

Layout: `webdatasets/single_frames/0000.tar … 4999.tar`, each member `SEQ_FRAME.bin` float32 coordinates
(nm) of one frame; `pdb_tarfiles/train.tar` holds `pdbs/train/SEQ.pdb`, which names the atoms in their order.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom


def published_atoms(pdbs: Path, part: str = "train") -> dict[str, tuple[Atom, ...]]:
    """Atoms of every peptide of `pdb_tarfiles/PART.tar`, in the published order.

    Args:
        pdbs: the archive `PART.tar`.
        part: `train`, `test` or `validation`.

    Returns:
        Atoms by sequence.

    Raises:
        BgbenchError: if the archive is missing or damaged.

    >>> import io, tarfile, tempfile
    >>> pdb = b"ATOM      1  N   GLY A   1       0.000   0.000   0.000  1.00  0.00           N"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Path(folder) / "train.tar"
    ...     with tarfile.open(archive, "w") as tar:
    ...         member = tarfile.TarInfo("pdbs/train/GG.pdb")
    ...         member.size = len(pdb)
    ...         tar.addfile(member, io.BytesIO(pdb))
    ...     published_atoms(archive)
    {'GG': (Atom(residue=0, residue_name='GLY', name='N', element='N'),)}
    """
    topologies = {}
    for name, text in _members(pdbs):
        place = PurePosixPath(name)
        if place.parent == PurePosixPath("pdbs", part) and place.suffix == ".pdb":
            try:
                topologies[place.stem] = parse_atoms(text.decode())
            except (ValueError, IndexError) as error:
                raise BgbenchError(f"{pdbs}: {name} is not a PDB file ({error}); fetch it again") from error
    return topologies


def parse_atoms(pdb: str) -> tuple[Atom, ...]:
    """Atoms of PDB text, in its order, with OpenMM's names: the first H of a chain is H in it, not H1.

    Raises:
        ValueError, IndexError: if the text is not a PDB file.

    >>> parse_atoms("ATOM      1  H1  GLY A   1       0.000   0.000   0.000  1.00  0.00           H")[0].name
    'H'
    """
    lines = [line for line in pdb.splitlines() if line.startswith(("ATOM", "HETATM"))]
    residues: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        residues.setdefault(line[21:27], []).append((line[17:20].strip(), line[12:16].strip()))
    atoms: list[Atom] = []
    for number, named in enumerate(residues.values()):
        residue, names = named[0][0], tuple(name for _, name in named)
        for name in _standard_names(residue, names):
            atoms.append(Atom(number, residue, name, name.lstrip("0123456789")[0]))
    if len(atoms) != len(lines):
        raise ValueError("an atom stands twice in a residue")
    return tuple(atoms)


@lru_cache(maxsize=1024)
def _standard_names(residue: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """OpenMM's names of the atoms of one residue; they depend on that residue alone."""
    from openmm.app import PDBFile

    lines = [
        f"ATOM  {k:>5} {name if len(name) == 4 else f' {name:<3}'} {residue:>3} A   1    "
        f"{float(k):8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00"
        for k, name in enumerate(names, 1)
    ]
    file = PDBFile(io.StringIO("\n".join([*lines, "TER", "END"])))
    return tuple(atom.name for atom in file.topology.atoms())


def published_frames(shard: Path, topologies: Mapping[str, tuple[Atom, ...]]) -> list[tuple[str, Tensor]]:
    """Sequence and positions `(atoms, 3)` nm of each frame of a shard, in its order.

    Args:
        shard: an archive `NNNN.tar`.
        topologies: atoms of each peptide (`published_atoms`).

    Returns:
        `(sequence, x)` of each frame.

    Raises:
        BgbenchError: for a damaged shard, an unknown peptide, a wrong number of atoms, NaN.

    >>> import io, tarfile, tempfile
    >>> content = np.ones((1, 3), "<f4").tobytes()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shard = Path(folder) / "0000.tar"
    ...     with tarfile.open(shard, "w") as tar:
    ...         member = tarfile.TarInfo("GG_0.bin")
    ...         member.size = len(content)
    ...         tar.addfile(member, io.BytesIO(content))
    ...     published_frames(shard, {"GG": (Atom(0, "GLY", "N", "N"),)})
    [('GG', tensor([[1., 1., 1.]]))]
    """
    frames = []
    for name, content in _members(shard):
        if not name.endswith(".bin"):
            continue
        sequence = PurePosixPath(name).name.split("_")[0]
        if sequence not in topologies:
            raise BgbenchError(f"{shard}: {name} is of a peptide without a PDB; fetch pdb_tarfiles again")
        atoms = len(topologies[sequence])
        if len(content) != 12 * atoms:
            raise BgbenchError(
                f"{shard}: {name} holds {len(content)} bytes, {atoms} atoms take {12 * atoms}; fetch it again"
            )
        x = torch.from_numpy(np.frombuffer(content, "<f4").reshape(atoms, 3).copy())
        if not bool(torch.isfinite(x).all()):
            raise BgbenchError(f"{shard}: {name} holds positions that are not finite; fetch it again")
        frames.append((sequence, x))
    if not frames:
        raise BgbenchError(f"{shard} holds no frames (members ending in .bin); fetch it again")
    return frames


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file but hidden ones, which macOS puts beside others; nothing is unpacked."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                hidden = PurePosixPath(member.name).name.startswith(".")
                if stream is not None and not hidden:
                    yield member.name, stream.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BgbenchError(f"{archive} cannot be read ({error}); fetch it again") from error
