"""The values that travel between stages: frozen, shape-checked, aligned.

Shapes: `n` is the number of conformers, `atoms` the number of atoms of a system. Lengths in nm,
energies in kT. Values that hold tensors are equal to themselves alone, as tensors of many numbers are
neither equal nor unequal; compare their fields.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError


@dataclass(frozen=True, slots=True)
class Atom:
    """An atom by residue (counted from 0), residue name, PDB atom name and element symbol."""

    residue: int
    residue_name: str
    name: str
    element: str


@dataclass(frozen=True)
class ForceFieldSpec:
    """A force field as data: OpenMM parameter files and how non-bonded terms are cut.

    `cutoff` in nm. The default is the published target (arXiv 2508.18175): Amber14 with OBC1.
    """

    name: str = "amber14-obc1"
    files: tuple[str, ...] = ("amber14-all.xml", "implicit/obc1.xml")
    nonbonded_method: str = "CutoffNonPeriodic"
    cutoff: float = 2.0
    constraints: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of every choice, hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class System:
    """One target: atoms, bonds, start positions `(atoms, 3)` nm, temperature in K, force field.

    Analytic systems have positions but no chemistry (`atoms == ()`).
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
        strange = [k for bond in self.bonds for k in bond if not 0 <= k < self.n_atoms]
        if strange:
            raise BgbenchError(
                f"{self.name}: a bond names atom {strange[0]}, but atoms are numbered 0 to {self.n_atoms - 1}"
            )
        if not 0.0 < self.temperature < math.inf:
            raise BgbenchError(f"temperature must be positive, got {self.temperature} K")

    def at(self, temperature: float) -> "System":
        """The same system at another temperature (K)."""
        return replace(self, temperature=temperature)

    @property
    def n_atoms(self) -> int:
        return int(self.positions.shape[0])

    @property
    def atom_index(self) -> dict[tuple[int, str], int]:
        """`(residue, atom name) → index`, residues counted from 0."""
        return {(atom.residue, atom.name): i for i, atom in enumerate(self.atoms)}


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a sampler drew: `x (n, atoms, 3)` nm; where known, `log_q (n,)` and `u (n,)` kT.

    Tensors of another device are moved to the CPU: a sampler computes where it likes.
    """

    x: Tensor
    log_q: Tensor | None = None
    u: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape("x", self.x, (None, None, 3))
        for name in ("log_q", "u"):
            value = getattr(self, name)
            if value is not None:
                check_shape(name, value, (self.n_samples,))
        for name in ("x", "log_q", "u"):
            value = getattr(self, name)
            if value is not None and value.device.type != "cpu":
                object.__setattr__(self, name, value.cpu())

    @property
    def n_samples(self) -> int:
        return int(self.x.shape[0])


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weighted conformers: `x (n, atoms, 3)` nm, `u (n,)` kT, unnormalised `log_w (n,)`, aligned."""

    x: Tensor
    u: Tensor
    log_w: Tensor

    def __post_init__(self) -> None:
        check_shape("x", self.x, (None, None, 3))
        check_shape("u", self.u, (self.n_samples,))
        check_shape("log_w", self.log_w, (self.n_samples,))
        if bool(torch.isnan(self.log_w).any()):
            raise ValueError("log_w holds NaN: give impossible points a weight of -inf")

    @classmethod
    def unweighted(cls, x: Tensor, u: Tensor) -> "Ensemble":
        """Points of equal weight."""
        return cls(x, u, torch.zeros(x.shape[0], dtype=torch.float64))

    @property
    def n_samples(self) -> int:
        return int(self.x.shape[0])

    @property
    def weights(self) -> Tensor:
        """Normalised weights `(n,)`, float64, summing to one."""
        return torch.softmax(self.log_w.double(), dim=0)

    def take(self, index: Tensor) -> "Ensemble":
        """The points at `index`, with their weights."""
        return Ensemble(self.x[index], self.u[index], self.log_w[index])


@dataclass(frozen=True, eq=False)
class TicaModel:
    """A fitted time-lagged independent component model; stored with its reference.

    `mean (features,)` and `projection (features, k)`; coordinates are `(f − mean) @ projection`.
    """

    mean: Tensor
    projection: Tensor

    def __post_init__(self) -> None:
        check_shape("tica mean", self.mean, (None,))
        check_shape("tica projection", self.projection, (int(self.mean.shape[0]), None))

    def transform(self, features: Tensor) -> Tensor:
        """`(n, features) → (n, k)`."""
        check_shape("features", features, (None, int(self.mean.shape[0])))
        return (features - self.mean) @ self.projection


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference conformers of one system, with where they came from and how good they are.

    `x (n, atoms, 3)` nm, `u (n,)` kT, `replica (n,)` the independent replica of each frame.
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
        return int(self.x.shape[0])

    @property
    def grade(self) -> str:
        """`gold`, `silver` or `bronze`."""
        return str(self.certificate["grade"])


@dataclass(frozen=True)
class Suite:
    """A frozen, versioned list of systems and the terms they are judged on."""

    name: str
    version: int
    systems: tuple[str, ...]
    forcefield: ForceFieldSpec = field(default_factory=ForceFieldSpec)
    temperature: float = 310.0
    energy: str = "openmm"
    protocol: str = "bgbench@1"
    budget: int = 10_000
    seeds: int = 3
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.systems:
            raise ValueError(f"suite {self.name} lists no system")
        if len(set(self.systems)) != len(self.systems):
            raise ValueError(f"suite {self.name} lists a system twice")

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Card:
    """What a sampler declares of itself: training sequences and cost, weights, size.

    `training_evaluations` counts energy evaluations spent on training data; `training_hours` is
    hardware-hours; both are declared, never measured by bgbench.
    """

    name: str
    training_sequences: tuple[str, ...] = ()
    training_evaluations: int = 0
    training_hours: float = 0.0
    n_parameters: int = 0
    weights_sha256: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Tuning:
    """How a sampler learns from its own weighted samples: `steps` batches of `batch` at rate `lr`.

    The loss is −log q per dimension plus `teacher` times the mean squared distance of the copy's noise from
    the teacher's, per dimension.
    """

    steps: int = 100
    batch: int = 64
    lr: float = 1e-4
    teacher: float = 0.5


def tuned_card(card: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """A weights file's card after fine-tuning on `notes["system"]` with `notes["evaluations"]` energies.

    What it learnt from is a training sequence from now on, what it cost a training cost.
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
