"""Trajectory files of other programs: read with their atoms, whatever the order in which these stand.

mdtraj reads xtc, dcd, pdb and its own h5; npz files are NumPy's and are never unpickled. Names of atoms
become those of PDB files as OpenMM knows them, so that the names of other programs are found.
"""

import importlib.util
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError, text_of
from bgbench.core.types import Atom, System
from bgbench.systems.topology import THREE_TO_ONE

WITHOUT_NAMES = (".xtc", ".dcd")
"""Endings of files of positions alone: a second file names their atoms."""

WITH_NAMES = (".h5", ".pdb")
"""Endings of files that name their atoms, and can name those of others."""

ENDINGS = (*WITHOUT_NAMES, ".npz", *WITH_NAMES)
"""Endings of the files that can be read, in the order in which a folder is searched."""

POSITIONS = ("x", "positions", "xyz")
"""What the positions are called in an npz file."""

DCD_HEADER = 84
"""Bytes of the first record of a DCD file."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a trajectory file holds, in its own order of atoms.

    Attributes:
        file: the file.
        x: frames `(n, atoms, 3)`, float64, in nm if the file keeps to its format.
        atoms: names of the atoms; empty where nothing names them.
        arrays: what else an npz file holds, by name.

    >>> Trajectory(Path("mine.npz"), torch.zeros(5, 23, 3)).n_samples
    5
    """

    file: Path
    x: Tensor
    atoms: tuple[Atom, ...] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Number of frames."""
        return int(self.x.shape[0])


def read_trajectory(file: Path, top: Path | None = None) -> Trajectory:
    """Read a trajectory.

    Args:
        file: ending in `.xtc`, `.dcd`, `.pdb`, `.h5` or `.npz`. An npz file holds positions as `x`,
            `positions` or `xyz`, and may name its atoms in `atoms`, as `residue:RES:NAME` counted from 0.
        top: a `.pdb` or `.h5` file that names the atoms of `file`.

    Returns:
        Its frames and the names of its atoms. Nothing is looked at but whether the file is whole.

    Raises:
        BgbenchError: for a file that is missing, damaged or of another kind, or without frames; for an xtc or
            dcd file without `top`; or if the two files have different numbers of atoms.

    >>> import tempfile
    >>> from bgbench import peptide
    >>> system = peptide("AA")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "AA.npz"
    ...     np.savez(file, x=system.positions[None].numpy())
    ...     read_trajectory(file).x.shape
    torch.Size([1, 23, 3])
    """
    if file.suffix not in ENDINGS:
        raise BgbenchError(f"{file} cannot be read: its ending must be one of {', '.join(ENDINGS)}")
    refuse_missing(file)
    if file.suffix in WITHOUT_NAMES and top is None:
        raise BgbenchError(f"{file} does not name its atoms; name a .pdb or .h5 file that does (top)")
    topology = None if top is None else read_topology(top)
    if file.suffix == ".npz":
        trajectory = _read_npz(file)
    else:
        frames, own = _read_frames(file, topology)
        trajectory = Trajectory(file, frames, () if topology is not None else named_atoms(own, file))
    if topology is not None and top is not None:
        atoms = named_atoms(topology, top)
        if len(atoms) != trajectory.x.shape[1]:
            raise BgbenchError(
                f"{file} has {trajectory.x.shape[1]} atoms in a frame and {top} names {len(atoms)}; give the "
                "topology that the frames were written with"
            )
        trajectory = Trajectory(file, trajectory.x, atoms, trajectory.arrays)
    if not trajectory.n_samples:
        raise BgbenchError(f"{file} holds no frames")
    return trajectory


def refuse_missing(file: Path) -> None:
    """Raise BgbenchError unless there is such a file."""
    if not file.is_file():
        raise BgbenchError(f"{file} does not exist" if not file.exists() else f"{file} is not a file")


def read_topology(top: Path) -> Any:
    """The mdtraj topology of a `.pdb` or `.h5` file.

    Raises:
        BgbenchError: for a file that is missing, damaged or of another kind.
    """
    if top.suffix not in WITH_NAMES:
        raise BgbenchError(f"{top} cannot name atoms: its ending must be one of {', '.join(WITH_NAMES)}")
    refuse_missing(top)
    return _read_frames(top, None)[1]


def _read_frames(file: Path, topology: Any) -> tuple[Tensor, Any]:
    """Frames `(n, atoms, 3)` and the mdtraj topology of a file that is not npz."""
    import mdtraj

    if file.suffix == ".dcd":
        _refuse_cut_dcd(file)
    if file.suffix == ".h5":
        refuse_h5_without_tables(file)
    if file.suffix == ".pdb" and not re.search(rb"^(ATOM|HETATM)", file.read_bytes(), re.MULTILINE):
        raise BgbenchError(f"{file} cannot be read as .pdb (it has no line of an atom); make it again")
    load = {
        ".xtc": lambda: mdtraj.load_xtc(str(file), top=topology),
        ".dcd": lambda: mdtraj.load_dcd(str(file), top=topology),
        ".pdb": lambda: mdtraj.load_pdb(str(file)),
        ".h5": lambda: mdtraj.load_hdf5(str(file)),
    }[file.suffix]
    try:
        with warnings.catch_warnings():
            # Of boxes and elements that look odd: there is no box here, and elements are known.
            warnings.simplefilter("ignore")
            loaded = load()
    except Exception as error:
        if topology is not None and isinstance(error, ValueError) and "shape" in text_of(error):
            raise BgbenchError(
                f"{file} and its topology ({topology.n_atoms} atoms) have different numbers of atoms"
            ) from error
        raise _unreadable(file, error) from error
    return torch.from_numpy(np.asarray(loaded.xyz, dtype=np.float64)), loaded.topology


def refuse_h5_without_tables(file: Path) -> None:
    """Raise BgbenchError where PyTables, by which mdtraj reads and writes `.h5` files, is not installed."""
    if importlib.util.find_spec("tables") is None:
        raise BgbenchError(
            f"{file}: .h5 files need PyTables, which is not installed; pip install 'bgbench[h5]', or use .xtc"
        )


def _refuse_cut_dcd(file: Path) -> None:
    """Raise BgbenchError for a DCD file that is none or was cut: mdtraj would read what is left of it."""
    data = file.read_bytes()[: DCD_HEADER + 8]
    for order in ("<", ">"):
        if len(data) == DCD_HEADER + 8 and data[4:8] == b"CORD":
            first = np.frombuffer(data[:4], f"{order}i4")[0]
            if first == DCD_HEADER:
                _refuse_part_of_frame(file, order)
                return
    raise BgbenchError(f"{file} is not a DCD file, or is damaged: it does not begin as one; make it again")


def _refuse_part_of_frame(file: Path, order: str) -> None:
    """Raise BgbenchError unless the records of a DCD file are whole, and as many as its header says."""
    data = np.memmap(file, np.uint8, "r")

    def number(place: int) -> int:
        return int(np.frombuffer(data[place : place + 4].tobytes(), f"{order}i4")[0])

    planned, has_box = number(8), number(4 + 4 * 11)
    place, records = 0, 0
    try:
        while place < len(data):
            place += number(place) + 8
            records += 1
    except IndexError:
        place = -1
    # Three records of header, then a frame in three, with the box in four.
    frames, rest = divmod(records - 3, 4 if has_box else 3)
    if place != len(data) or rest or (planned and frames != planned):
        raise BgbenchError(f"{file} was cut: its header promises {planned} frames; make it again")


def _unreadable(file: Path, error: BaseException) -> BgbenchError:
    reason = " ".join(text_of(error).split())[:120] or type(error).__name__
    return BgbenchError(f"{file} cannot be read as {file.suffix} ({reason}); make it again")


def _read_npz(file: Path) -> Trajectory:
    arrays = read_arrays(file)
    named = [name for name in POSITIONS if name in arrays]
    if len(named) != 1:
        raise BgbenchError(
            f"{file} must hold positions under one of the names {', '.join(POSITIONS)}; it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    x = arrays.pop(named[0])
    if x.ndim != 3 or x.shape[2] != 3 or x.dtype.kind not in "fiu":
        raise BgbenchError(
            f"{file}: {named[0]} has shape {x.shape} and type {x.dtype}; write numbers (frames, atoms, 3)"
        )
    atoms: tuple[Atom, ...] = ()
    if "atoms" in arrays:
        atoms = _listed_atoms(arrays.pop("atoms"), file)
        if len(atoms) != x.shape[1]:
            raise BgbenchError(f"{file} has {x.shape[1]} atoms in a frame and names {len(atoms)}")
    return Trajectory(file, torch.from_numpy(x.astype(np.float64)), atoms, arrays)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, or the one of an npy file, which has no name.

    Args:
        file: the file.

    Returns:
        Arrays by name; that of an npy file under an empty one.

    Raises:
        BgbenchError: for a file that is missing, damaged, or holds Python objects.

    >>> from bgbench.core.resources import data_path
    >>> read_arrays(data_path("references", "AA.npz"))["replica"].dtype
    dtype('int16')
    """
    refuse_missing(file)
    try:
        with file.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                return {"": stored}
            return {name: stored[name] for name in stored.files}
    except Exception as error:
        raise _unreadable(file, error) from error


def _listed_atoms(names: np.ndarray, file: Path) -> tuple[Atom, ...]:
    words = [str(name).split(":") for name in names.ravel()]
    if not all(len(word) == 3 and word[0].isdigit() and word[2] for word in words):
        raise BgbenchError(f"{file}: atoms must hold names such as 0:ALA:CA, residues counted from 0")
    return tuple(Atom(int(residue), kind, name, name[0]) for residue, kind, name in words)


def named_atoms(topology: Any, file: Path) -> tuple[Atom, ...]:
    """The atoms of an mdtraj topology, with names as OpenMM knows them, in the topology's order.

    Residues are those of one number, whether their atoms stand together or not, in the order of their
    numbers.

    Raises:
        BgbenchError: if two atoms of a residue have one name.
    """
    residues: dict[tuple[int, int], list[Any]] = {}
    for atom in topology.atoms:
        residues.setdefault((atom.residue.chain.index, atom.residue.resSeq), []).append(atom)
    groups = [residues[key] for key in sorted(residues)]
    for number, group in enumerate(groups):
        names = [atom.name for atom in group]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise BgbenchError(
                f"{file}: residue {number + 1} ({group[0].residue.name}) has two atoms named {twice[0]}; "
                "number the residues and name the atoms so that each is there once"
            )
    standard = _standard_names(groups)
    atoms: list[Atom | None] = [None] * topology.n_atoms
    for number, (group, names) in enumerate(zip(groups, standard, strict=True)):
        for atom, name in zip(group, names, strict=True):
            kind = _residue_name(atom.residue.name)
            atoms[atom.index] = Atom(number, kind, name, _element(atom))
    return tuple(atom for atom in atoms if atom is not None)


def _standard_names(groups: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Names of the atoms of each residue, by OpenMM's table of how programs call them.

    OpenMM applies that table when it reads a PDB file, and offers no other way.
    """
    import openmm
    from openmm import app, unit

    topology = app.Topology()
    chain = topology.addChain()
    for group in groups:
        residue = topology.addResidue(_residue_name(group[0].residue.name), chain)
        for atom in group:
            topology.addAtom(atom.name[:4], app.Element.getBySymbol(_element(atom)), residue)
    text = io.StringIO()
    # One place each: atoms at one place would be bonded.
    places = [openmm.Vec3(0.1 * k % 900, 0.0, 0.0) for k in range(topology.getNumAtoms())]
    app.PDBFile.writeFile(topology, unit.Quantity(places, unit.nanometer), text)
    read = app.PDBFile(io.StringIO(text.getvalue())).topology
    return [[atom.name for atom in residue.atoms()] for residue in read.residues()]


def _residue_name(name: str) -> str:
    """A residue's name without the N or C that Amber puts before those of terminal residues."""
    return name[1:] if len(name) == 4 and name[0] in "NC" and name[1:] in THREE_TO_ONE else name


def _element(atom: Any) -> str:
    symbol = "" if atom.element is None else str(atom.element.symbol)
    return symbol if symbol not in ("", "VS") else atom.name.lstrip("0123456789")[:1].upper() or "C"


def mdtraj_topology(system: System) -> Any:
    """The atoms and bonds of a system as an mdtraj topology, residues counted from 1.

    Args:
        system: the system, whose atoms stay in their order.

    Returns:
        The topology, for mdtraj's files.

    Raises:
        BgbenchError: for a system without atoms.

    >>> from bgbench import peptide
    >>> mdtraj_topology(peptide("AA")).n_atoms
    23
    """
    import mdtraj

    if not system.atoms:
        raise BgbenchError(f"{system.name} has no atoms to write to a trajectory file")
    topology = mdtraj.Topology()
    chain = topology.add_chain("A")
    residues: dict[int, Any] = {}
    for atom in sorted(system.atoms, key=lambda atom: atom.residue):
        if atom.residue not in residues:
            residues[atom.residue] = topology.add_residue(atom.residue_name, chain, atom.residue + 1)
    added = [
        topology.add_atom(atom.name, mdtraj.element.get_by_symbol(atom.element), residues[atom.residue])
        for atom in system.atoms
    ]
    for first, second in system.bonds:
        topology.add_bond(added[first], added[second])
    return topology
