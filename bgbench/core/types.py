"""The values that travel between stages: frozen, shape-checked, aligned.

Shapes: `n` is the number of conformers, `atoms` the number of atoms of a system. Lengths in nm,
energies in kT.

Equality: a `System` and the values without tensors (`Atom`, `ForceFieldSpec`, `Suite`, `Card`, `Tuning`) are
equal where their contents are, and may be keys of a cache. Values that carry samples (`Proposal`, `Ensemble`,
`TicaModel`, `Reference`) are equal only to themselves: compare their tensors where contents matter.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError, BrokenContract
from bgbench.core.options import refuse_below, refuse_unknown_word

NonbondedMethod = Literal["NoCutoff", "CutoffNonPeriodic"]
"""How non-bonded terms are cut, in OpenMM's words. A molecule in implicit solvent has no periodic box."""

Constraints = Literal["HBonds", "AllBonds", "HAngles"]
"""What is held rigid, in OpenMM's words."""

FOLDER_NAME = r"\w[\w.+-]*"
"""A name that can be a folder's and leads out of none."""


@dataclass(frozen=True, slots=True)
class Atom:
    """An atom of a molecule.

    Attributes:
        residue: number of its residue, counted from 0.
        residue_name: as in PDB files, `ALA`.
        name: of the atom, as in PDB files, `CA`.
        element: symbol, `C`.

    >>> Atom(residue=0, residue_name="ALA", name="CA", element="C").name
    'CA'
    """

    residue: int
    residue_name: str
    name: str
    element: str


@dataclass(frozen=True)
class ForceFieldSpec:
    """A force field as data: OpenMM parameter files and how non-bonded terms are cut.

    The default is the published target (arXiv 2508.18175): Amber14 with OBC1.

    Args:
        name: what records and tables call it.
        files: OpenMM force-field files, its own by name or others by path.
        nonbonded_method: `NoCutoff` or `CutoffNonPeriodic`.
        cutoff: in nm, used with `CutoffNonPeriodic`.
        constraints: None, `HBonds`, `AllBonds` or `HAngles`.

    Raises:
        BgbenchError: for a name that cannot be a folder's, a word that is not one of these, no files, or a
            cut-off that is not positive.

    >>> ForceFieldSpec(name="amber14-vacuum", files=("amber14-all.xml",), nonbonded_method="NoCutoff").cutoff
    2.0
    """

    name: str = "amber14-obc1"
    files: tuple[str, ...] = ("amber14-all.xml", "implicit/obc1.xml")
    nonbonded_method: NonbondedMethod = "CutoffNonPeriodic"
    cutoff: float = 2.0
    constraints: Constraints | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(FOLDER_NAME, self.name):
            raise BgbenchError(
                f"force field {self.name!r}: its name is the name of a folder of references; write letters, "
                "digits, dots, dashes and underscores, a letter or digit first, such as amber14-vacuum"
            )
        if isinstance(self.files, str) or not self.files:
            raise BgbenchError(
                f"force field '{self.name}' needs a tuple of OpenMM force-field files, got {self.files!r}"
            )
        owner = f"force field '{self.name}'"
        refuse_unknown_word(f"{owner}: nonbonded_method", self.nonbonded_method, get_args(NonbondedMethod))
        if self.constraints is not None:
            refuse_unknown_word(f"{owner}: constraints", self.constraints, get_args(Constraints))
        if not 0.0 < self.cutoff < math.inf:
            raise BgbenchError(f"force field '{self.name}': cutoff must be positive, got {self.cutoff} nm")

    @property
    def sha256(self) -> str:
        """Hash of every choice, hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class System:
    """One target: what its atoms and bonds are, a start structure, the temperature and the force field.

    The atoms may stand in any order; energies and features follow from atoms, bonds and positions alone.
    Two systems are equal if all their fields are, positions to the last bit.

    Args:
        name: what records and tables call it.
        positions: a start structure `(atoms, 3)` in nm.
        atoms: one `Atom` for each row of `positions`; `()` for analytic systems, which have no chemistry.
        bonds: pairs of places in `atoms`.
        sequence: the one-letter sequence of a plain peptide, else empty. A label: nothing is built from it.
        temperature: in K.
        forcefield: None for analytic systems.

    Raises:
        ValueError: if `positions` has another shape or another number of atoms than `atoms`.
        BgbenchError: if the temperature is not positive, a residue has two names or two atoms of one name,
            or a bond is there twice, joins an atom to itself or names an atom that does not exist.

    >>> argon = System("argon", torch.zeros(1, 3), (Atom(0, "AR", "AR", "Ar"),))
    >>> argon == argon.at(310.0), argon == argon.at(300.0)
    (True, False)
    """

    name: str
    positions: Tensor
    atoms: tuple[Atom, ...] = ()
    bonds: tuple[tuple[int, int], ...] = ()
    sequence: str = ""
    temperature: float = 310.0
    forcefield: ForceFieldSpec | None = None

    def __post_init__(self) -> None:
        check_shape("positions", self.positions, (None, 3))
        if self.atoms and len(self.atoms) != self.n_atoms:
            raise ValueError(f"{self.name}: {len(self.atoms)} atoms but {self.n_atoms} positions")
        check_temperature(self.temperature)
        self._check_names()
        self._check_bonds()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, System):
            return NotImplemented
        mine, others = self.positions, other.positions
        alike = mine.dtype == others.dtype and mine.device == others.device
        return self._key == other._key and alike and torch.equal(mine, others)

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        """All but the positions, whose tensor has no hash of its contents."""
        return (self.name, self.atoms, self.bonds, self.sequence, self.temperature, self.forcefield)

    def _check_names(self) -> None:
        names: dict[int, str] = {}
        seen: set[tuple[int, str]] = set()
        for atom in self.atoms:
            if names.setdefault(atom.residue, atom.residue_name) != atom.residue_name:
                raise BgbenchError(
                    f"{self.name}: residue {atom.residue} is called both {names[atom.residue]} and "
                    f"{atom.residue_name}; give each residue a number of its own"
                )
            if (atom.residue, atom.name) in seen:
                raise BgbenchError(
                    f"{self.name}: residue {atom.residue} ({atom.residue_name}) has two atoms named "
                    f"{atom.name}; leave one out or rename it"
                )
            seen.add((atom.residue, atom.name))

    def _check_bonds(self) -> None:
        seen: set[frozenset[int]] = set()
        for bond in self.bonds:
            pair = frozenset(bond)
            if len(bond) != 2 or len(pair) != 2:
                raise BgbenchError(f"{self.name}: bond {bond} does not join two atoms")
            if not all(0 <= atom < self.n_atoms for atom in bond):
                raise BgbenchError(
                    f"{self.name}: bond {bond} names an atom that does not exist; there are {self.n_atoms}, "
                    "counted from 0"
                )
            if pair in seen:
                raise BgbenchError(f"{self.name}: bond {bond} is listed twice")
            seen.add(pair)

    def at(self, temperature: float) -> "System":
        """The same system at another temperature (K).

        Args:
            temperature: in K.

        Returns:
            A copy at that temperature.

        Raises:
            BgbenchError: if the temperature is not positive.
        """
        return replace(self, temperature=temperature)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return int(self.positions.shape[0])

    @property
    def atom_index(self) -> dict[tuple[int, str], int]:
        """`(residue, atom name) → index`, residues counted from 0."""
        return {(atom.residue, atom.name): i for i, atom in enumerate(self.atoms)}

    @property
    def rotatable_bonds(self) -> tuple["RotatableBond", ...]:
        """Every bond about which one side can turn: in no ring, with further atoms at both ends.

        Peptide bonds and the bonds of methyl groups are among them; filter by the names of the atoms.

        >>> from bgbench import peptide
        >>> system = peptide("AA")
        >>> [" ".join(system.atoms[k].name for k in bond.torsion) for bond in system.rotatable_bonds][:3]
        ['CB CA N H', 'O C CA N', 'N CA CB HB1']
        """
        neighbours, turning = self._neighbours(), []
        for i, j in self.bonds:
            sides = self.atoms_beyond(i, j), self.atoms_beyond(j, i)
            if i in sides[0] or not all(sides):
                continue
            # The smaller side turns, as the second atom of the axis has it.
            (a, b), moved = ((i, j), sides[0]) if len(sides[0]) <= len(sides[1]) else ((j, i), sides[1])
            ends = [
                min(set(neighbours[c]) - {a, b}, key=lambda k: (self.atoms[k].element == "H", k))
                for c in (a, b)
            ]
            turning.append(RotatableBond((ends[0], a, b, ends[1]), moved))
        return tuple(turning)

    def atoms_beyond(self, start: int, end: int) -> tuple[int, ...]:
        """The atoms on the far side of a bond.

        Args:
            start: an atom, by its place in the system.
            end: an atom that is bonded to it.

        Returns:
            The atoms that are reached from `end` without that bond, `end` left out, in order; with `start`
            among them the bond is in a ring.

        >>> from bgbench import peptide
        >>> system = peptide("AA")
        >>> ca, cb = system.atom_index[0, "CA"], system.atom_index[0, "CB"]
        >>> [system.atoms[k].name for k in system.atoms_beyond(ca, cb)]
        ['HB1', 'HB2', 'HB3']
        """
        neighbours = self._neighbours()
        reached, waiting = {end}, [end]
        while waiting:
            atom = waiting.pop()
            fresh = {b for b in neighbours[atom] if {atom, b} != {start, end}} - reached
            reached |= fresh
            waiting += fresh
        return tuple(sorted(reached - {end}))

    def _neighbours(self) -> list[list[int]]:
        """The atoms bonded to each atom."""
        neighbours: list[list[int]] = [[] for _ in range(self.n_atoms)]
        for a, b in self.bonds:
            neighbours[a].append(b)
            neighbours[b].append(a)
        return neighbours


@dataclass(frozen=True)
class RotatableBond:
    """A bond about which one side of a molecule can turn; atoms by their places in the system.

    Attributes:
        torsion: four atoms whose dihedral is the angle of the turn; the bond is that of the middle two.
        moved: the atoms that turn, beyond the third of `torsion`, which lies on the axis.
    """

    torsion: tuple[int, int, int, int]
    moved: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a sampler drew.

    Tensors of another device are moved to the CPU: a sampler computes where it likes.

    Attributes:
        x: conformers `(n, atoms, 3)` in nm.
        log_q: log-densities `(n,)`; None where the sampler has none.
        u: energies `(n,)` in kT that the sampler had to compute anyway; None where it had none.

    Raises:
        TypeError: for anything but a tensor, such as a NumPy array.
        ValueError: if a tensor has another shape, or is not of float32 or float64.

    >>> Proposal(torch.zeros(5, 23, 3), log_q=torch.zeros(5)).n_samples
    5
    """

    x: Tensor
    log_q: Tensor | None = None
    u: Tensor | None = None

    def __post_init__(self) -> None:
        check_floats("x", self.x)
        check_shape("x", self.x, (None, None, 3))
        for name in ("log_q", "u"):
            value = getattr(self, name)
            if value is not None:
                check_floats(name, value)
                check_shape(name, value, (self.n_samples,))
        for name in ("x", "log_q", "u"):
            value = getattr(self, name)
            if value is not None and value.device.type != "cpu":
                object.__setattr__(self, name, value.cpu())

    @property
    def n_samples(self) -> int:
        """Number of conformers."""
        return int(self.x.shape[0])


def check_numbers(u: Tensor, log_w: Tensor) -> None:
    """Raise ValueError for energies that are NaN or -inf, and for weights that are NaN or +inf."""
    if bool(torch.isnan(log_w).any()):
        raise ValueError("log_w holds NaN: give impossible points a weight of -inf")
    if bool((log_w == torch.inf).any()):
        raise ValueError("log_w holds +inf: no point has all the weight")
    if bool((torch.isnan(u) | (u == -torch.inf)).any()):
        raise ValueError("u holds NaN or -inf: give impossible points an energy of +inf")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weighted conformers.

    Attributes:
        x: conformers `(n, atoms, 3)` in nm.
        u: their energies `(n,)` in kT; +inf for impossible ones.
        log_w: their unnormalised log-weights `(n,)`; -inf for those of no weight.

    Raises:
        TypeError: for anything but a tensor, such as a NumPy array.
        ValueError: if a tensor has another shape or is not of float32 or float64, a weight is NaN or +inf, or
            an energy NaN or -inf.

    >>> ensemble = Ensemble(torch.zeros(2, 23, 3), torch.zeros(2), torch.tensor([0.0, -torch.inf]))
    >>> ensemble.weights.tolist()
    [1.0, 0.0]
    """

    x: Tensor
    u: Tensor
    log_w: Tensor

    def __post_init__(self) -> None:
        for name in ("x", "u", "log_w"):
            check_floats(name, getattr(self, name))
        check_shape("x", self.x, (None, None, 3))
        check_shape("u", self.u, (self.n_samples,))
        check_shape("log_w", self.log_w, (self.n_samples,))
        check_numbers(self.u, self.log_w)

    @classmethod
    def unweighted(cls, x: Tensor, u: Tensor) -> "Ensemble":
        """Make an ensemble of equal weights.

        Args:
            x: conformers `(n, atoms, 3)` in nm.
            u: their energies `(n,)` in kT.

        Returns:
            The ensemble.
        """
        return cls(x, u, torch.zeros(x.shape[0], dtype=torch.float64))

    @property
    def n_samples(self) -> int:
        """Number of conformers."""
        return int(self.x.shape[0])

    @property
    def weights(self) -> Tensor:
        """Normalised weights `(n,)`, float64, summing to one."""
        return torch.softmax(self.log_w.double(), dim=0)

    def take(self, index: Tensor) -> "Ensemble":
        """Select conformers with their weights.

        Args:
            index: places `(m,)`; one may be there several times.

        Returns:
            The ensemble of the m conformers.
        """
        return Ensemble(self.x[index], self.u[index], self.log_w[index])


@dataclass(frozen=True, eq=False)
class Draws:
    """Every draw of an estimate whose ensemble is a sample of them: numbers alone, not conformers.

    A million conformers of a tetrapeptide are 816 MB, and of their numbers 29 MB.

    Attributes:
        u: energies `(n,)` in kT; +inf for impossible ones.
        log_w: unnormalised log-weights `(n,)`; -inf for those of no weight.
        at: `(k,)`, the place among the draws of each conformer of the ensemble.
        log_q: log-densities `(n,)`; None where the sampler has none.
        faults: `(n,)` uint8, what is wrong with each conformer (`bgbench.systems.faults`); None where nobody
            looked.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: if a tensor has another shape or dtype, a weight is NaN or +inf, an energy NaN or -inf, or
            a place is none of a draw.

    >>> draws = Draws(torch.zeros(4), torch.zeros(4), at=torch.tensor([0, 2]))
    >>> draws.n, draws.first(2).at.tolist()
    (4, [0])
    """

    u: Tensor
    log_w: Tensor
    at: Tensor
    log_q: Tensor | None = None
    faults: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("u", "log_w", "log_q"):
            value = getattr(self, name)
            if value is not None:
                check_floats(name, value)
                check_shape(name, value, (len(self.u),))
        check_shape("at", self.at, (None,))
        check_numbers(self.u, self.log_w)
        if len(self.at) and not 0 <= int(self.at.min()) <= int(self.at.max()) < self.n:
            raise ValueError(f"at holds places outside of the {self.n} draws")
        if self.faults is not None:
            check_shape("faults", self.faults, (self.n,))

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.u)

    def first(self, n: int) -> "Draws":
        """The first `n` draws, with the places of those conformers that are among them."""
        log_q, faults = (None if value is None else value[:n] for value in (self.log_q, self.faults))
        return Draws(self.u[:n], self.log_w[:n], self.at[self.at < n], log_q, faults)


@dataclass(frozen=True, eq=False)
class TicaModel:
    """A fitted time-lagged independent component model; stored with its reference.

    Coordinates are `(f − mean) @ projection`.
    Method: Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013).

    Attributes:
        mean: of the features, `(features,)`.
        projection: onto the k slowest components, `(features, k)`.

    Raises:
        ValueError: if a tensor has another shape.

    >>> TicaModel(torch.tensor([1.0, 2.0]), torch.eye(2)).transform(torch.tensor([[1.0, 5.0]])).tolist()
    [[0.0, 3.0]]
    """

    mean: Tensor
    projection: Tensor

    def __post_init__(self) -> None:
        check_shape("tica mean", self.mean, (None,))
        check_shape("tica projection", self.projection, (int(self.mean.shape[0]), None))

    def transform(self, features: Tensor) -> Tensor:
        """Project features onto the slow components.

        Args:
            features: `(n, features)`, as `bgbench.systems.features` makes them.

        Returns:
            Coordinates `(n, k)`.

        Raises:
            ValueError: if features have another shape.
        """
        check_shape("features", features, (None, int(self.mean.shape[0])))
        return (features - self.mean) @ self.projection


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference conformers of one system, with where they came from and how good they are.

    Attributes:
        system: name of the system.
        x: conformers `(n, atoms, 3)` in nm.
        u: their energies `(n,)` in kT.
        replica: number of the independent replica of each conformer, `(n,)`.
        certificate: where they came from, and how well they converged.
        tica: model of the slow coordinates; None without one.
        sha256: hash of the file; empty for a reference that is of no file.

    Raises:
        ValueError: if a tensor has another shape.

    >>> x, u, replica = torch.zeros(2, 23, 3), torch.zeros(2), torch.tensor([0, 1])
    >>> Reference("AA", x, u, replica, {"grade": "gold"}).grade
    'gold'
    """

    system: str
    x: Tensor
    u: Tensor
    replica: Tensor
    certificate: Mapping[str, Any]
    tica: TicaModel | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        check_shape("x", self.x, (None, None, 3))
        check_shape("u", self.u, (self.n_samples,))
        check_shape("replica", self.replica, (self.n_samples,))

    @property
    def n_samples(self) -> int:
        """Number of conformers."""
        return int(self.x.shape[0])

    @property
    def grade(self) -> str:
        """`gold`, `silver` or `bronze`."""
        return str(self.certificate["grade"])

    def halves(self, split: int = 0) -> tuple["Reference", "Reference"]:
        """Two references of half of the replicas each.

        Args:
            split: which way to halve the replicas, from 0.

        Returns:
            The halves, without a hash. With one replica, they are its first and its second half; later splits
            cut it in 4, 6 … runs and take every other one.

        >>> x, u, replica = torch.zeros(4, 23, 3), torch.zeros(4), torch.tensor([0, 1, 2, 3])
        >>> one, other = Reference("AA", x, u, replica, {"grade": "gold"}).halves()
        >>> one.replica.tolist(), other.replica.tolist()
        ([0, 1], [2, 3])
        """
        names = torch.unique(self.replica)
        if len(names) < 2:
            runs = 2 * (split + 1)
            first = torch.arange(self.n_samples) * runs // self.n_samples % 2 == 0
        else:
            if split:
                names = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(split))]
            first = torch.isin(self.replica, names[: len(names) // 2])
        one, other = (
            replace(self, x=self.x[half], u=self.u[half], replica=self.replica[half], sha256="")
            for half in (first, ~first)
        )
        return one, other


@dataclass(frozen=True)
class Structure:
    """The PDB file of a system of a suite.

    Attributes:
        name: of the system, `pdb:mine.pdb`.
        text: of the file.

    >>> Structure("pdb:mine.pdb", "END").name
    'pdb:mine.pdb'
    """

    name: str
    text: str


@dataclass(frozen=True)
class OwnTerms:
    """What some systems of a suite have in place of the suite's own force field or temperature.

    Args:
        systems: their names.
        forcefield: None: the suite's.
        temperature: in K; None: the suite's.

    Raises:
        BgbenchError: if it names no system or changes nothing, or the temperature is not positive.

    >>> OwnTerms(("ACE-A-NME",), temperature=300.0).forcefield is None
    True
    """

    systems: tuple[str, ...]
    forcefield: ForceFieldSpec | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not self.systems or (self.forcefield is None and self.temperature is None):
            raise BgbenchError("terms need systems, and a force field or a temperature that these have")
        if self.temperature is not None:
            check_temperature(self.temperature)


@dataclass(frozen=True)
class Suite:
    """A frozen, versioned list of systems and the terms they are judged on.

    Args:
        name: without the version.
        version: from 1.
        systems: names of systems, each once.
        forcefield: of every peptide.
        temperature: in K.
        energy: the name of an energy backend.
        protocol: `name@version`.
        budget: energy evaluations of a cell.
        seeds: cells of each system.
        terms: what some of the systems have of their own.
        structures: of the systems that PDB files beside the suite's file define.
        sha256: hash of the suite's file, and of those.

    Raises:
        ValueError: if no system is listed, or one twice, or terms name one that is not listed, or twice.
        BgbenchError: for a budget or seeds below 1, or a temperature that is not positive.

    >>> Suite("two", 1, ("AA", "GS")).id
    'two@1'
    """

    name: str
    version: int
    systems: tuple[str, ...]
    forcefield: ForceFieldSpec = field(default_factory=ForceFieldSpec)
    temperature: float = 310.0
    energy: str = "openmm"
    protocol: str = "bgbench@1"
    budget: int = 10_000
    seeds: int = 3
    terms: tuple[OwnTerms, ...] = ()
    structures: tuple[Structure, ...] = ()
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.systems:
            raise ValueError(f"suite {self.name} lists no system")
        with_terms = [name for terms in self.terms for name in terms.systems]
        for name in with_terms:
            if name not in self.systems:
                raise ValueError(f"terms name '{name}', which is not among the systems; list it there too")
            if with_terms.count(name) > 1:
                raise ValueError(f"terms name '{name}' twice; leave one out")
        twice = [name for name in self.systems if self.systems.count(name) > 1]
        if twice:
            raise ValueError(f"suite {self.name} lists a system twice: {twice[0]}; leave one out")
        refuse_below("budget", self.budget, 1)
        refuse_below("seeds", self.seeds, 1)
        check_temperature(self.temperature)

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def structure_of(self, system: str) -> Structure | None:
        """The structure of one of the systems.

        Args:
            system: its name.

        Returns:
            None for a system that no PDB file defines.
        """
        return next((one for one in self.structures if one.name == system), None)

    def forcefield_of(self, system: str) -> ForceFieldSpec:
        """The force field of one of the systems, its own or the suite's.

        Args:
            system: its name.

        Returns:
            The force field.
        """
        own = (terms.forcefield for terms in self.terms if system in terms.systems)
        return next(own, None) or self.forcefield

    def temperature_of(self, system: str) -> float:
        """The temperature of one of the systems in K, its own or the suite's.

        Args:
            system: its name.

        Returns:
            In K.
        """
        own = (terms.temperature for terms in self.terms if system in terms.systems)
        return next(own, None) or self.temperature


@dataclass(frozen=True)
class Card:
    """What a sampler declares of itself: training sequences and cost, weights, size.

    Training is declared, never measured by bgbench.

    Attributes:
        name: what records and tables call the sampler or its weights.
        training_sequences: one-letter sequences of the peptides it was trained on. Names of their files and
            other spellings are read as the sequences they stand for; with a name that is none, nothing is
            called unseen.
        training_evaluations: energy evaluations that the training data cost.
        training_hours: hardware-hours of training.
        n_parameters: trainable numbers.
        weights_sha256: hash of the weights file, or of the files of samples that are read; empty without one.
        notes: anything else, for people.
        run_here: False for a sampler that reads samples which were made elsewhere: what they cost is not
            known, and nobody can run it again.
        uncharged_evaluations: energy evaluations of each cell that the budget does not pay for. Runs share a
            table only with runs that left out as many.

    Raises:
        BgbenchError: for a value of another kind, or a number below zero.

    >>> Card("mine", training_sequences=("AA",), training_evaluations=10_000).n_parameters
    0
    """

    name: str
    training_sequences: tuple[str, ...] = ()
    training_evaluations: int = 0
    training_hours: float = 0.0
    n_parameters: int = 0
    weights_sha256: str = ""
    notes: str = ""
    run_here: bool = True
    uncharged_evaluations: int = 0

    def __post_init__(self) -> None:
        sequences = self.training_sequences
        if not isinstance(sequences, tuple) or not all(isinstance(name, str) for name in sequences):
            raise BgbenchError(f"card: training_sequences must be a tuple of sequences, got {sequences!r}")
        for name in ("name", "weights_sha256", "notes"):
            if not isinstance(getattr(self, name), str):
                raise BgbenchError(f"card: {name} must be text, got {getattr(self, name)!r}")
        numbers: dict[str, type[int] | type[float]] = {
            "training_evaluations": int,
            "training_hours": float,
            "n_parameters": int,
            "uncharged_evaluations": int,
        }
        for name, kind in numbers.items():
            value = getattr(self, name)
            if not isinstance(value, (int, kind)) or not 0 <= value < math.inf:
                word = "whole number" if kind is int else "number"
                raise BgbenchError(f"card: {name} must be a {word} from 0 on, got {value!r}")


@dataclass(frozen=True)
class Tuning:
    """How a `Tunable` sampler learns from its own weighted samples.

    The loss is −log q per dimension plus `teacher` times the mean squared distance of the copy's noise from
    the teacher's, per dimension.

    Attributes:
        steps: batches to learn from.
        batch: conformers in a batch.
        lr: learning rate.
        teacher: weight of staying close to the sampler as it was.

    >>> Tuning(steps=10).batch
    64
    """

    steps: int = 100
    batch: int = 64
    lr: float = 1e-4
    teacher: float = 0.5


def tuned_card(card: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a weights file after fine-tuning; the system and its cost count as training from now on.

    Args:
        card: of the weights that were fine-tuned.
        notes: `system`, the name of the system; `evaluations`, energies spent; `hours`, hardware-hours.

    Returns:
        A new card. It keeps `notes` under `fine_tuned`.

    >>> tuned_card({"name": "mine"}, {"system": "AA", "evaluations": 100, "hours": 0.5})["name"]
    'mine-tuned'
    """
    sequences = {*card.get("training_sequences", ()), str(notes["system"])}
    return {
        **card,
        "name": f"{card.get('name', 'weights')}-tuned",
        "training_sequences": sorted(sequences),
        "training_evaluations": int(card.get("training_evaluations", 0)) + int(notes["evaluations"]),
        "training_hours": float(card.get("training_hours", 0.0)) + float(notes["hours"]),
        "notes": f"fine-tuned from {card.get('name', 'weights')} on its own weighted samples",
        "fine_tuned": dict(notes),
    }


def check_shape(name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `value` has `shape` (None matches any length)."""
    actual = tuple(value.shape)
    fits = len(actual) == len(shape) and all(
        want is None or have == want for have, want in zip(actual, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("·" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} has shape {actual}, expected ({wanted})")


def check_temperature(value: object) -> None:
    """Raise BgbenchError unless the value is a temperature in K: a number, positive and finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise BgbenchError(f"temperature must be a number of K, got {value!r}; write 310.0")
    if not 0.0 < float(value) < math.inf:
        raise BgbenchError(f"temperature must be positive and finite, got {float(value):g} K")


def check_floats(name: str, value: object) -> None:
    """Refuse anything but a tensor of float32 or float64.

    Raises:
        TypeError: for what is no tensor, saying what it is.
        ValueError: for another dtype. Half precision has no digits for bond lengths and energies.
    """
    if not isinstance(value, Tensor):
        advice = f"write torch.from_numpy({name})" if isinstance(value, np.ndarray) else "give a tensor"
        raise TypeError(f"{name} must be a torch.Tensor, got {describe_kind(value)}; {advice}")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must be of float32 or float64, got {str(value.dtype).removeprefix('torch.')}, which has "
            f"no digits for nm and kT; write {name}.float() or compute it in more digits"
        )


def check_proposal(value: object, source: str, n: int) -> Proposal:
    """The value, as what it must be: a `Proposal` of at most `n` conformers, and not of none.

    Raises:
        BrokenContract: for anything else, naming its `source`.
    """
    if not isinstance(value, Proposal):
        raise BrokenContract(
            f"{source} returned {describe_kind(value)}; return bgbench.Proposal(x), x: (n, atoms, 3) nm"
        )
    if value.n_samples > n:
        raise BrokenContract(f"{source} returned {value.n_samples} conformers, {n} were asked for")
    if n and not value.n_samples:
        raise BrokenContract(f"{source} returned no conformer, {n} were asked for; return {n}")
    return value


def describe_kind(value: object) -> str:
    """What a value is, for the message that refuses it.

    >>> describe_kind(None), describe_kind((1, 2)), describe_kind(torch.zeros(2))
    ('None', 'a tuple', 'a float32 tensor')
    """
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        word = f"{str(value.dtype).removeprefix('torch.')} tensor"
    elif isinstance(value, np.ndarray):
        word = "NumPy array"
    else:
        word = type(value).__name__
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
